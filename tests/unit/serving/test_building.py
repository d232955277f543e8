"""Builds: begun, tried again, given up, begun anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from modelyard.engine.errors import ClusterError, Refused
from modelyard.engine.plan import Child, Key, Manifest
from modelyard.serving.children import builds
from modelyard.serving.children.builds import build_job

from tests.unit.serving.world import NAME, NAMESPACE, World, built, deployment, trained_job

ELSEWHERE = {"uri": "pvc://models/mine"}


def failed(reason: str = "ModelUnreachable", message: str = "No.") -> dict[str, Any]:
    """A build's result that has no package."""
    return {"stage": "build", "outcome": "failed", "failure": {"reason": reason, "message": message}}


def refuse(kind: str) -> Callable[[Manifest], ClusterError | None]:
    """An API server whose quota has no room for another of this kind."""
    text = (
        f"exceeded quota: few, requested: count/{kind.lower()}s=1, used: count/{kind.lower()}s=1, limited: 1"
    )
    return lambda manifest: Refused("Forbidden", text) if manifest["kind"] == kind else None


def end_by(world: World, status: dict[str, Any]) -> None:
    """From now on the pods of builds end with this status."""

    def play(key: Key, job: Manifest) -> None:
        if (job.get("status") or {}).get("conditions"):
            return
        pod = world._pod(f"{key.name}-0", job, job)
        world.cluster.create(pod | {"status": status})
        end = {"type": "Failed", "status": "True", "lastTransitionTime": world.time}
        world.cluster.change(key, lambda o: o.update(status={"active": 0, "conditions": [end]}))

    world._play_job = play  # type: ignore[method-assign]


def erase_jobs(world: World) -> None:
    """A user deletes the build's Job."""
    for name in world.names("Job"):
        world.cluster.erase(Key("Job", NAMESPACE, name))
    world.settle()


def tries(world: World) -> list[int]:
    """Numbers of the Jobs that there are."""
    return [int(name.rpartition("-")[2]) for name in world.names("Job")]


def message(world: World, kind: str) -> str:
    """A condition's sentence."""
    return next(str(c["message"]) for c in world.status["conditions"] if c["type"] == kind)


@pytest.mark.parametrize("reason", ["Überlauf", "404", ""])
def test_a_reason_that_no_condition_takes_stops_no_pass(reason: str) -> None:
    world = World(result=failed(reason), exit_code=2)
    world.create(trained_job(), deployment())
    assert world.condition("Built") == ("False", "BuildFailed")


@pytest.mark.parametrize(
    "kind", ["Job", "PersistentVolumeClaim", "Deployment", "Service", "ServiceAccount", "RoleBinding"]
)
def test_a_child_that_is_refused_is_waited_for_in_peace(kind: str) -> None:
    world = World()
    world.cluster.refuse = refuse(kind)
    world.create(deployment(model=ELSEWHERE))
    assert world.condition("Ready") == ("False", "QuotaExceeded")
    before = len(world.cluster.calls)
    world.wait(300, step=30)
    written = world.cluster.operations()[before:]
    assert (
        len(written) <= 2 * 300 / 60 * 3
    )  # the engine asks anew once a minute, and there are three such Services
    assert not [call for call in written if call.startswith("status")]
    assert world.status.get("build") is None
    world.cluster.refuse = lambda manifest: None
    world.wait(120, step=40)
    assert world.condition("Ready") == ("True", "Serving")
    assert tries(world) == [1]


def test_a_second_try_that_is_refused_is_the_second_still_when_it_is_taken() -> None:
    world = World(result=failed(), exit_code=75)
    world.create(trained_job(), deployment())
    world.cluster.refuse = refuse("Job")
    world.wait(300, step=10)
    assert world.status["build"]["attempt"] == 1
    assert world.condition("Ready") == ("False", "QuotaExceeded")
    world.cluster.refuse = lambda manifest: None
    world.result, world.exit_code = None, 0
    world.wait(120, step=10)
    assert tries(world) == [2]
    assert world.status["build"]["attempt"] == 2


def live(world: World) -> World:
    """A life in which Jobs are refused at first, and the first of them fails."""
    world.cluster.refuse = refuse("Job")
    world.create(trained_job(), deployment())
    world.result, world.exit_code = failed(), 75
    world.cluster.refuse = lambda manifest: None
    world.wait(60, step=30)
    world.cluster.refuse = refuse("Job")
    world.wait(60, step=30)
    world.result, world.exit_code = built(), 0
    world.cluster.refuse = lambda manifest: None
    return world.wait(150, step=50)


def count_writes() -> int:
    """Of that life."""
    return len(live(World()).cluster.calls)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, count_writes() + 1))
def test_an_operator_that_dies_while_jobs_are_refused_is_followed_by_one_that_builds(
    number: int, when: str
) -> None:
    world = World()
    world.let_die(number, when)
    live(world)
    assert world.condition("Ready") == ("True", "Serving")
    assert len(world.names("Job")) == 1
    assert tries(world)[0] <= 4
    assert world.names("Deployment")[1] == f"{NAME}-gateway"


def test_what_was_mended_outside_of_the_spec_is_noticed_in_the_end() -> None:
    world = World(result=failed("ModelNotFound", "There is no such folder"), exit_code=2)
    world.create(deployment(model=ELSEWHERE))
    assert world.condition("Stalled") == ("True", "ModelNotFound")
    assert message(world, "Stalled").startswith("There is no such folder. It is tried again late;")
    world.wait(500, step=100)
    assert tries(world) == [1]
    world.wait(150, step=50)
    assert tries(world) == [2]
    assert world.condition("Stalled") == ("True", "ModelNotFound")
    world.result, world.exit_code = built(), 0
    world.wait(1200, step=200)
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Stalled") is None


def test_tries_that_would_fail_again_become_rare() -> None:
    world = World(result=failed("CompressionGateFailed"), exit_code=2)
    world.create(trained_job(), deployment(compression={"method": "int8"}))
    world.wait(2 * 86_400, step=3600)
    first = tries(world)[0]
    world.wait(86_400, step=3600)
    assert tries(world)[0] - first == 4


def test_a_job_that_is_deleted_by_hand_is_tried_again_soon() -> None:
    world = World(result=failed("ModelNotFound"), exit_code=2)
    world.create(deployment(model=ELSEWHERE))
    assert "kubectl delete job" in message(world, "Stalled")
    world.result, world.exit_code = built(), 0
    erase_jobs(world)
    world.wait(11)
    assert world.condition("Ready") == ("True", "Serving")


def test_jobs_that_somebody_deletes_all_the_time_come_later_and_later() -> None:
    world = World(result=None)
    world.create(trained_job(), deployment())
    for _ in range(60):
        world.clock.advance(5)
        erase_jobs(world)
    assert world.condition("Built") == ("False", "JobDeleted")
    assert 3 < world.status["build"]["attempt"] < 7


def test_while_a_try_runs_the_next_one_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(*arguments: Any) -> Child:
        made.append(arguments[-1])
        return build_job(*arguments)

    monkeypatch.setattr(builds, "build_job", make)
    world = World(result=None)
    world.create(trained_job(), deployment())
    (job,) = (o for k, o in world.cluster.objects.items() if k.kind == "Job")
    world.cluster.create(world._pod("build-pod", job, job) | {"status": {"phase": "Running"}})
    world.settle()
    made.clear()
    world.engine.controller.enqueue_all()
    world.settle()
    assert made == []


def mend_image(world: World) -> None:
    """The platform team edits the profile."""
    profile = world.settings.profiles["default"]
    world.settings.profiles["default"] = profile.model_copy(
        update={"server_image": "registry.example/server:2"}
    )
    world.engine.controller.enqueue_all()
    world.settle()


def test_a_profile_that_was_mended_is_tried_at_once() -> None:
    world = World(result=failed("ModelForbidden"), exit_code=2)
    world.create(trained_job(), deployment())
    assert world.condition("Stalled") == ("True", "ModelForbidden")
    world.wait(30, step=10)
    world.result, world.exit_code = built(), 0
    mend_image(world)
    assert world.condition("Ready") == ("True", "Serving")


def test_a_build_whose_pod_waits_takes_over_what_was_mended_meanwhile() -> None:
    world = World(result=None)
    world.create(trained_job(), deployment())
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    world.edit(server={"podTemplate": {"spec": {"tolerations": tolerations}}})
    assert tries(world) == [2]
    (job,) = (o for k, o in world.cluster.objects.items() if k.kind == "Job")
    assert job["spec"]["template"]["spec"]["tolerations"] == tolerations
    mend_image(world)
    assert tries(world) == [3]


def test_one_whose_place_is_refused_meanwhile_is_no_other_try() -> None:
    world = World(result=None)
    world.create(trained_job(), deployment())
    world.cluster.refuse = refuse("Job")
    mend_image(world)
    world.wait(60, step=10)
    assert world.condition("Ready") == ("False", "QuotaExceeded")
    world.cluster.refuse = lambda manifest: None
    world.wait(70, step=10)
    assert tries(world) == [2]


def test_a_build_that_runs_goes_on_whatever_is_edited() -> None:
    world = World(result=None)
    world.create(trained_job(), deployment())
    (name,) = world.names("Job")
    job = world.cluster.objects[Key("Job", NAMESPACE, name)]
    pod = world._pod(f"{name}-0", job, job) | {"status": {"phase": "Running"}}
    world.cluster.create(pod)
    mend_image(world)
    assert tries(world) == [1]


def test_a_build_that_was_given_up_too_early_is_taken_all_the_same() -> None:
    world = World(result=None)
    world.create(trained_job(), deployment())
    (name,) = world.names("Job")
    key = Key("Job", NAMESPACE, name)
    pod = world._pod(f"{name}-x", world.cluster.objects[key], world.cluster.objects[key])
    waiting = {"name": "build", "image": "b:1", "state": {"waiting": {"reason": "InvalidImageName"}}}
    world.cluster.create(pod | {"status": {"phase": "Pending", "containerStatuses": [waiting]}})
    world.settle()
    assert world.condition("Stalled") == ("True", "InvalidImageName")
    world.result = built()
    world.settle()
    assert world.condition("Ready") == ("True", "Serving")


def test_a_build_that_dies_each_time_is_given_up_with_its_exit_code() -> None:
    world = World()
    ended = {"name": "build", "state": {"terminated": {"exitCode": 139, "reason": "Error"}}}
    end_by(world, {"phase": "Failed", "containerStatuses": [ended]})
    world.create(trained_job(), deployment())
    assert world.condition("Stalled") is None
    world.wait(40, step=5)
    assert tries(world) == [3]
    assert world.condition("Stalled") == ("True", "PodFailed")
    assert "exit code 139 (SIGSEGV)" in message(world, "Stalled")
    assert "3 Jobs in succession" in message(world, "Stalled")
    world.wait(900, step=100)
    assert tries(world) == [3]


def test_a_build_that_is_driven_off_again_and_again_is_not_given_up() -> None:
    world = World()
    ended = {"name": "build", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}
    end_by(world, {"phase": "Failed", "reason": "Evicted", "message": "Low.", "containerStatuses": [ended]})
    world.create(trained_job(), deployment())
    world.wait(400, step=10)
    assert tries(world)[0] >= 5
    assert world.condition("Stalled") is None


def test_a_build_that_hangs_is_stopped_and_named() -> None:
    world = World()
    ended = {"name": "build", "state": {"terminated": {"exitCode": 143, "reason": "Error"}}}
    status = {"phase": "Failed", "reason": "DeadlineExceeded", "containerStatuses": [ended]}
    end_by(world, status)
    world.create(trained_job(), deployment())
    (job,) = (o for k, o in world.cluster.objects.items() if k.kind == "Job")
    assert job["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 10800
    assert world.condition("Stalled") == ("True", "PodDeadlineExceeded")
    assert "after 3 hours" in message(world, "Stalled")


def test_a_package_that_lacks_what_servers_need_is_not_waited_for() -> None:
    world = World(result=built(variants=[]))
    world.create(trained_job(), deployment())
    assert world.condition("Stalled") == ("True", "InvalidBuildConfig")
    assert "of another release" in message(world, "Stalled")
    assert tries(world) == [1]
