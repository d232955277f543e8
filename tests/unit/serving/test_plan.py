"""Whole lives of ModelDeployments, over the real engine."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from modelyard.contract import codes
from modelyard.engine.errors import ClusterError, Refused
from modelyard.engine.plan import Key, Manifest
from modelyard.serving.gateways.reports import SILENT_SECONDS

from tests.kstatus import compute_status
from tests.unit.serving.world import (
    DIGEST,
    KEY,
    NAME,
    NAMESPACE,
    World,
    built,
    deployment,
    trained_job,
    variant,
)

OTHER = "sha256-" + "2" * 64


def served(**spec: Any) -> World:
    """A deployment at rest that serves its job's model."""
    world = World()
    world.create(trained_job(), deployment(**spec))
    assert world.condition("Ready") == ("True", "Serving")
    return world


def test_a_trained_model_gets_a_build_servers_gateways_and_a_url() -> None:
    world = served()
    assert world.names("Job") == [f"{NAME}-build-{world.status['compression']['digest'][:8]}-1"]
    (revision,) = world.revisions()
    assert world.names("Deployment") == [f"{NAME}-{revision}", f"{NAME}-gateway"]
    assert world.revisions() == {revision: 1}
    assert world.weights() == {revision: 100}
    assert world.status["url"] == f"http://{NAME}.{NAMESPACE}.svc"
    assert world.status["model"]["digest"] == DIGEST
    for part in ("ModelReady", "Built", "ServersReady", "GatewayReady", "UpToDate"):
        found = world.condition(part)
        assert found is not None
        assert found[0] == "True"
    assert compute_status(world.cluster.objects[KEY]) == "Current"


def test_at_rest_nothing_is_written_or_asked() -> None:
    world = served()
    calls = len(world.cluster.calls)
    world.wait(120, step=20)
    assert len(world.cluster.calls) == calls
    assert world.probes() == []


def test_while_the_job_trains_it_waits_with_the_jobs_phase_and_goes_on_by_itself() -> None:
    world = World()
    job = trained_job(phase="Training")
    del job["status"]["completionTime"]
    world.create(job, deployment())
    assert world.condition("ModelReady") == ("False", "WaitingForTraining")
    assert world.condition("Ready") == ("False", "WaitingForTraining")
    assert "is Training" in next(
        c["message"] for c in world.status["conditions"] if c["type"] == "ModelReady"
    )
    assert world.names("Job") == []
    assert world.names("Deployment") == [f"{NAME}-gateway"]  # callers find somebody who answers
    world.train_anew(DIGEST)
    assert world.condition("Ready") == ("True", "Serving")


def test_a_model_that_was_trained_anew_takes_over_once_all_its_servers_are_ready() -> None:
    world = served(scaling={"scaler": "none"}, replicas=3)
    (old,) = world.revisions()
    world.result = None
    world.train_anew(OTHER)
    assert world.revisions() == {old: 3}  # until it is built
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("UpToDate") == ("False", "Building")
    world.slow = True
    world.result = built(digest=OTHER)
    world.settle()
    (new,) = set(world.revisions()) - {old}
    assert world.revisions() == {old: 3, new: 3}
    assert world.weights() == {old: 100, new: 100}  # the gateways don't know the new one's weight yet
    assert world.condition("Ready") == ("True", "Serving")
    world.followed = {old: 100, new: 100}
    world.wait(3)
    assert world.revisions() == {old: 3, new: 3}
    assert world.weights() == {old: 0, new: 100}  # they send requests to both, so the old one stays
    world.slow = False
    world.wait(3)
    assert world.revisions() == {new: 3}
    assert world.weights() == {new: 100}
    assert world.condition("UpToDate") == ("True", "Serving")
    states = [(r["name"], r["state"]) for r in world.status["revisions"]]
    assert states == [(f"{NAME}-{new}", "Serving"), (f"{NAME}-{old}", "Retired")]


def test_what_the_spec_asks_for_is_not_said_to_serve_while_the_earlier_revision_gets_requests_too() -> None:
    orders = set()
    for delay in range(
        4
    ):  # the ids hang on it, and of two that share the one with the larger id counts as serving
        world = served(scaling={"scaler": "none"}, replicas=2)
        (old,) = world.revisions()
        world.slow = True
        world.edit(server={"maxBatchDelayMilliseconds": 7 + delay})
        (new,) = set(world.revisions()) - {old}
        orders.add(old < new)
        assert world.weights() == {old: 100, new: 100}
        assert world.condition("UpToDate") == ("False", "Progressing")
        assert world.condition("Reconciling") == ("True", "Progressing")
        world.followed = {old: 100, new: 100}
        world.wait(3)
        assert world.weights() == {old: 0, new: 100}  # and no gateway has heard of that
        assert world.condition("UpToDate") == ("False", "Progressing")
        world.slow = False
        world.wait(3)
        assert world.condition("UpToDate") == ("True", "Serving")
        assert world.condition("Reconciling") is None
    assert orders == {True, False}


def test_a_gateway_that_answers_and_does_not_follow_is_named_with_what_keeps_it() -> None:
    world = served(scaling={"scaler": "none"}, replicas=2, gateway={"replicas": 2})
    (old,) = world.revisions()
    world.slow = True
    world.edit(server={"maxBatchDelayMilliseconds": 7})
    (new,) = set(world.revisions()) - {old}
    late = f"; gateway {NAME}-gateway-rs-0 doesn't follow yet: "
    assert f"{late}kubectl logs {NAME}-gateway-rs-0." in world.message("UpToDate")
    world.trouble = "the API server refuses to show EndpointSlices: 403: no."
    world.wait(3600, step=300)
    assert world.weights() == {old: 100, new: 100}
    assert world.condition("UpToDate") == ("False", "Progressing")
    assert world.message("UpToDate").endswith(f"{late}{world.trouble}")
    world.followed = {old: 100, new: 100}
    world.wait(3)
    assert world.weights() == {old: 0, new: 100}
    assert late in world.message("UpToDate")
    world.slow, world.trouble = False, None
    world.wait(3)
    assert world.condition("UpToDate") == ("True", "Serving")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_gateway_that_is_not_ready_says_what_keeps_it_from_finding_servers(replaced: bool) -> None:
    """Without the role that lets it watch, it runs and is never ready."""
    world = served(scaling={"scaler": "none"}, gateway={"replicas": 1})
    key = Key("Deployment", NAMESPACE, f"{NAME}-gateway")
    (pod,) = (k for k in world.cluster.objects if k.kind == "Pod" and "gateway" in k.name)
    assert world.probes() == []
    world.still = True
    world.report(pod, {**world.cluster.objects[pod]["status"], "conditions": []})
    there = (
        {"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1}
        if replaced
        else {"replicas": 1, "updatedReplicas": 1}
    )
    world.report(key, {"observedGeneration": world.cluster.objects[key]["metadata"]["generation"], **there})
    world.settle()
    assert [p.wait for p in world.probes()] == [60.0]
    assert world.condition("GatewayReady") == (("True", "Replacing") if replaced else ("False", "Starting"))
    world.trouble = "the API server refuses to show EndpointSlices: 403: no"
    world._answer()
    world.settle()
    told = "Reconciling" if replaced else "GatewayReady"
    assert world.condition(told) == ("True" if replaced else "False", "GatewayBlind")
    assert world.message(told) == f"The gateway in pod {pod.name} finds no servers: {world.trouble}"
    world.still = False
    world.settle()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.probes() == []


def test_a_weight_that_is_refused_costs_no_server_that_answers() -> None:
    world = served()
    (old,) = world.revisions()
    world.well = {old}
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    (new,) = set(world.revisions()) - {old}
    message = 'admission webhook "w" denied the request: no.'

    def refuse(manifest: Manifest) -> ClusterError | None:
        named = (manifest["kind"], manifest["metadata"]["name"])
        return Refused("Forbidden", message) if named == ("Service", f"{NAME}-{new}") else None

    world.cluster.refuse = refuse
    world.well = None
    world.wait(120, step=5)
    assert world.revisions() == {old: 1, new: 1}
    assert world.weights() == {old: 100, new: 0}
    assert world.condition("Ready") == ("True", "Serving")
    world.cluster.refuse = lambda manifest: None
    world.wait(70, step=5)
    assert world.weights() == {new: 100}


def test_servers_that_never_become_ready_leave_the_old_ones_serving() -> None:
    world = served(progressDeadlineSeconds=60)
    (old,) = world.revisions()
    world.well = {old}
    world.result = built(digest=OTHER)
    world.words = {"reason": "ModelUnproven", "message": "Its answers differ."}
    world.train_anew(OTHER)
    (new,) = set(world.revisions()) - {old}
    assert world.weights() == {old: 100, new: 0}
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("UpToDate") == ("False", "ModelUnproven")
    assert world.condition("Reconciling") is not None
    world.wait(61)
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Stalled") == ("True", "ModelUnproven")
    assert world.condition("Reconciling") is None
    assert world.weights() == {old: 100, new: 0}
    by_name = {r["name"]: r["state"] for r in world.status["revisions"]}
    assert by_name == {f"{NAME}-{old}": "Serving", f"{NAME}-{new}": "Failed"}
    world.well = None
    world.wait(3)
    assert world.revisions() == {new: 1}
    assert world.condition("Stalled") is None


def test_traffic_scaling_and_gateway_settings_restart_no_server() -> None:
    world = served()
    before = world.revisions()
    pods = {k: o["metadata"]["uid"] for k, o in world.cluster.objects.items()
            if k.kind == "Pod" and "gateway" not in k.name}  # fmt: skip
    world.edit(traffic={"timeoutSeconds": 5, "maxQueue": 7}, gateway={"replicas": 3})
    world.edit(scaling={"minReplicas": 1, "maxReplicas": 4})
    assert world.revisions() == before
    after = {k: o["metadata"]["uid"] for k, o in world.cluster.objects.items()
             if k.kind == "Pod" and "gateway" not in k.name}  # fmt: skip
    assert after == pods
    gateway = world.cluster.objects[Key("Deployment", NAMESPACE, f"{NAME}-gateway")]
    assert gateway["spec"]["replicas"] == 3
    told = str(gateway["spec"]["template"]["metadata"]["annotations"])
    assert '"maxQueue":7' in told


def test_a_change_of_traffic_is_under_way_until_no_gateway_of_before_is_left() -> None:
    world = served(gateway={"replicas": 2})
    key = Key("Deployment", NAMESPACE, f"{NAME}-gateway")
    under_way = ("True", "Replacing")
    world.still = True
    world.edit(traffic={"apiKeys": {"secretRef": {"name": "keys"}}})
    generation = world.cluster.objects[key]["metadata"]["generation"]
    steps = [
        {"observedGeneration": generation - 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2},
        {"observedGeneration": generation, "replicas": 2, "readyReplicas": 2},  # no room for another
        {"observedGeneration": generation, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2},
        {"observedGeneration": generation, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3},
    ]
    for step in steps:
        world.report(key, step)
        world.settle()
        assert world.condition("Ready") == ("True", "Serving")
        assert world.condition("GatewayReady") == world.condition("Reconciling") == under_way
        assert world.condition("UpToDate") == ("True", "Serving")
    # One that is lost is none of before.
    for there in (2, 1):
        world.report(
            key,
            {
                "observedGeneration": generation,
                "replicas": there,
                "updatedReplicas": there,
                "readyReplicas": 1,
            },
        )
        world.settle()
        assert world.condition("GatewayReady") == ("True", "Ready")
        assert world.condition("Reconciling") is None
    assert "Replacing" not in {e["reason"] for e in world.cluster.events.values()}


def test_gateways_share_a_callers_rate_and_each_has_its_burst() -> None:
    world = served()
    world.edit(
        traffic={"rateLimit": {"requestsPerSecond": 10, "burst": 7, "per": "address"}},
        gateway={"replicas": 4},
    )
    gateway = world.cluster.objects[Key("Deployment", NAMESPACE, f"{NAME}-gateway")]
    told = str(gateway["spec"]["template"]["metadata"]["annotations"])
    assert '"rateLimit":{"requestsPerSecond":2.5,"burst":7,"per":"address"}' in told


def test_a_profile_that_is_edited_restarts_no_server() -> None:
    world = served()
    before = world.revisions()
    profile = world.settings.profiles["default"]
    world.settings.profiles["default"] = profile.model_copy(
        update={"server_image": "registry.example/server:2"}
    )
    world.engine.controller.enqueue_all()
    world.settle()
    assert world.revisions() == before


def test_a_change_of_the_servers_is_a_new_revision() -> None:
    world = served()
    before = world.revisions()
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    world.wait(3)
    assert len(world.revisions()) == 1
    assert world.revisions() != before


def test_a_build_that_fails_for_good_names_its_reason_and_nothing_is_served() -> None:
    world = World(
        result={
            "stage": "build",
            "outcome": "failed",
            "failure": {"reason": "UnsafeModel", "message": "Pickles."},
        },
        exit_code=2,
    )
    world.create(trained_job(), deployment())
    assert world.condition("Stalled") == ("True", "UnsafeModel")
    assert world.condition("Built") == ("False", "UnsafeModel")
    assert world.revisions() == {}
    jobs = world.names("Job")
    world.wait(120, step=20)
    assert world.names("Job") == jobs  # another try would end the same way
    # Another spec is another build.
    world.result, world.exit_code = built("bf16", variants=[variant("none"), variant("bf16")]), 0
    world.edit(compression={"method": "bf16"})
    assert world.condition("Ready") == ("True", "Serving")
    assert world.status["compression"]["chosen"] == "bf16"


def test_a_build_that_was_interrupted_is_tried_again_later_and_later() -> None:
    world = World(
        result={
            "stage": "build",
            "outcome": "failed",
            "failure": {"reason": "ModelUnreachable", "message": "No."},
        },
        exit_code=75,
    )
    world.create(trained_job(), deployment())
    assert world.condition("Built") == ("False", "ModelUnreachable")
    assert world.condition("Stalled") is None
    assert [n[-2:] for n in world.names("Job")] == ["-1"]
    world.wait(11)
    assert [n[-2:] for n in world.names("Job")] == ["-2"]
    world.wait(11)
    assert [n[-2:] for n in world.names("Job")] == ["-2"]
    world.result, world.exit_code = built(), 0
    world.wait(12)
    assert world.condition("Ready") == ("True", "Serving")


def test_a_gate_that_fails_leaves_the_old_revision_serving() -> None:
    world = served()
    before = world.revisions()
    world.result = {
        "stage": "build", "outcome": "failed",
        "failure": {"reason": "CompressionGateFailed", "message": "int8 agrees on 0.9 of the rows."},
    }  # fmt: skip
    world.exit_code = 2
    world.edit(compression={"method": "int8"})
    assert world.revisions() == before
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("UpToDate") == ("False", "CompressionGateFailed")
    assert world.condition("Stalled") == ("True", "CompressionGateFailed")
    world.result, world.exit_code = built(), 0
    world.edit(compression={"method": "none"})
    assert world.revisions() == before
    assert world.condition("Stalled") is None


def test_the_job_may_go_once_its_model_serves() -> None:
    world = served()
    before = world.revisions()
    world.cluster.erase(Key("TrainingJob", NAMESPACE, NAME))
    world.settle()
    assert world.revisions() == before
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("ModelReady") == ("True", "JobGone")
    assert world.condition("UpToDate") == ("True", "Serving")
    assert compute_status(world.cluster.objects[KEY]) == "Current"
    world.cluster.erase(Key("Deployment", NAMESPACE, f"{NAME}-{next(iter(before))}"))
    world.settle()
    assert world.revisions() == before  # made again of what the status knows
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    world.wait(3)
    assert len(world.revisions()) == 1
    assert world.revisions() != before
    world.edit(compression={"method": "bf16"})
    world.wait(3)
    assert world.condition("UpToDate") == ("True", "Serving")


def test_while_the_job_trains_anew_its_last_model_serves_and_servers_may_change() -> None:
    world = served()
    before = world.revisions()
    job = trained_job()
    stale = {**job["status"], "observedGeneration": 0, "phase": "Training"}
    world.cluster.change(Key("TrainingJob", NAMESPACE, NAME), lambda o: o.update(status=stale))
    world.settle()
    assert world.condition("ModelReady") == ("False", "WaitingForTraining")
    assert world.condition("Ready") == ("True", "Serving")
    assert compute_status(world.cluster.objects[KEY]) == "Current"
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    world.wait(3)
    assert world.revisions() != before
    assert world.condition("UpToDate") == ("True", "Serving")


def test_a_model_that_was_trained_anew_and_missed_its_gate_leaves_the_last_one_serving() -> None:
    world = served()
    before = world.revisions()
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "GateFailed",
        "message": "eval_loss misses its bound.",
    }
    world.cluster.change(
        Key("TrainingJob", NAMESPACE, NAME), lambda o: o["status"].update(conditions=[ready])
    )
    world.settle()
    assert world.revisions() == before
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("UpToDate") == ("False", "GateFailed")
    assert world.condition("Stalled") == ("True", "GateFailed")


def test_suspended_it_has_no_servers_and_goes_on_with_the_same() -> None:
    world = served(scaling={"scaler": "none"}, replicas=2)
    (revision,) = world.revisions()
    world.edit(suspend=True)
    assert world.revisions() == {revision: 0}
    assert world.condition("Ready") == ("False", "Suspended")
    assert world.condition("Reconciling") is None
    gateway = world.cluster.objects[Key("Deployment", NAMESPACE, f"{NAME}-gateway")]
    assert '"suspended":true' in str(gateway["spec"]["template"]["metadata"]["annotations"])
    world.edit(suspend=False)
    assert world.revisions() == {revision: 2}
    assert world.condition("Ready") == ("True", "Serving")


def test_replicas_by_hand() -> None:
    world = served(scaling={"scaler": "none"}, replicas=2)
    (revision,) = world.revisions()
    world.edit(replicas=5)
    assert world.revisions() == {revision: 5}
    assert world.status["replicas"] == 5
    assert world.status["selector"] == (
        f"modelyard.dev/modeldeployment={NAME},app.kubernetes.io/component=server,modelyard.dev/revision={revision}"
    )


def test_replicas_follow_the_load_within_their_bounds_and_go_to_zero() -> None:
    world = served(
        scaling={"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 30, "scaleDownDelaySeconds": 0}
    )
    (revision,) = world.revisions()
    world.load.queued, world.load.running = 200, 30
    world.load.arrival_rate, world.load.finish_rate = 60.0, 20.0
    world.wait(20)
    assert world.revisions() == {revision: 4}
    assert world.highest == 4
    world.load = type(world.load)(idle_seconds=40.0)
    world.wait(240, step=2)
    assert world.revisions() == {revision: 0}
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("ServersReady") == ("True", "ScaledToZero")
    assert all(probe.wait for probe in world.probes())  # held until there is something to tell
    calls = len(world.cluster.calls)
    world.wait(60)
    assert len(world.cluster.calls) == calls
    world.load = type(world.load)(queued=2)
    world._answer()
    world.settle()
    assert world.revisions() == {revision: 1}


def test_gateways_that_tell_nothing_leave_replicas_as_they_are() -> None:
    world = served(scaling={"minReplicas": 1, "maxReplicas": 4})
    (revision,) = world.revisions()
    world.load.queued = 100
    world.deaf = True
    world.engine.facts.answers.clear()
    world.edit(traffic={"maxQueue": 5})
    world.wait(30)
    assert world.revisions() == {revision: 1}
    assert world.condition("ScalingReady") == ("False", "LoadUnknown")


def test_an_unknown_profile_is_named_and_nothing_stops() -> None:
    world = served()
    before = world.revisions()
    world.edit(profile="gpu")
    assert world.condition("Stalled") == ("True", "ProfileNotFound")
    assert world.condition("Ready") == ("True", "Serving")
    assert world.revisions() == before


def test_a_revision_that_lost_its_requests_waits_for_gateways_that_have_not_told_what_they_follow() -> None:
    world = served()
    (old,) = world.revisions()
    world.deaf = True
    world.engine.facts.answers.clear()
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    (new,) = set(world.revisions()) - {old}
    world.wait(30)
    assert world.weights() == {old: 0, new: 100}
    assert world.revisions() == {old: 1, new: 1}
    world.wait(40)  # whoever is silent for so long will not tell at all
    assert world.revisions() == {new: 1}


def test_a_service_that_others_delete_comes_back_with_its_weight() -> None:
    world = served()
    (old,) = world.revisions()
    world.well = {old}
    world.edit(server={"maxBatchDelayMilliseconds": 9})
    (new,) = set(world.revisions()) - {old}
    for name in (old, new):
        world.cluster.erase(Key("Service", NAMESPACE, f"{NAME}-{name}"))
    world.settle()
    assert world.weights() == {old: 100, new: 0}


def test_where_there_is_room_for_one_server_the_old_one_goes_first_if_none_are_asked_for() -> None:
    world = served(scaling={"maxReplicas": 1})
    (old,) = world.revisions()
    world.well = set()  # the new one loads for long
    world.edit(scaling={"scaler": "none"}, replicas=0, server={"maxBatchTokens": 512})
    (new,) = world.revisions().keys() - {old}
    world.wait(5)
    assert world.revisions() == {old: 0, new: 1}
    assert world.weights() == {old: 100, new: 0}  # no servers: gateways let requests wait
    world.edit(replicas=1)  # for the old one there is no room any more
    world.well = {new}
    world.wait(5)
    assert world.revisions() == {new: 1}
    assert world.weights() == {new: 100}
    assert world.condition("UpToDate") == ("True", "Serving")


def test_no_replicas_by_hand_is_no_readiness() -> None:
    world = served(scaling={"scaler": "none"})
    world.edit(replicas=0)
    assert world.condition("Ready") == ("False", "Suspended")
    assert world.condition("Suspended") == ("True", "Suspended")
    assert world.condition("ServersReady") == ("False", "NoReplicas")
    assert world.condition("Reconciling") is None
    world.edit(replicas=1)
    assert world.condition("Ready") == ("True", "Serving")


def test_an_overlay_of_the_servers_is_laid_over_the_build_too() -> None:
    mount = {"name": "server", "volumeMounts": [{"name": "certs", "mountPath": "/data/certs"}]}
    volumes = [{"name": "certs", "secret": {"secretName": "certs"}}]
    world = World(result=None)
    world.create(
        trained_job(),
        deployment(server={"podTemplate": {"spec": {"volumes": volumes, "containers": [mount]}}}),
    )
    (job,) = (o for k, o in world.cluster.objects.items() if k.kind == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "build"
    assert "/data/certs" in {m["mountPath"] for m in container["volumeMounts"]}


def test_gateways_that_cannot_start_are_told_while_the_old_ones_answer() -> None:
    world = served()
    for key in [k for k in world.cluster.objects if k.kind == "Pod" and "gateway" in k.name][:1]:
        ended = {"exitCode": 2, "reason": "Error"}
        status = {
            "phase": "Running",
            "containerStatuses": [
                {"name": "gateway", "state": {"waiting": {}}, "lastState": {"terminated": ended}}
            ],
        }
        world.report(key, status)
    gateway = Key("Deployment", NAMESPACE, f"{NAME}-gateway")
    world.cluster.change(gateway, lambda o: o["status"].update(readyReplicas=1))
    world._work()
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("Reconciling") == ("True", "GatewayFailed")


def evict(world: World, component: str) -> None:
    """A pod of these is evicted; it lies around beside the one that took its place."""
    key = next(k for k in sorted(world.cluster.objects) if k.kind == "Pod" and component in k.name)
    pod = copy.deepcopy(world.cluster.objects[key])
    pod["metadata"]["name"] = f"evicted-{key.name}"
    (container,) = pod["status"]["containerStatuses"]
    ended = [{"name": container["name"], "state": {"terminated": {"exitCode": 137}}}]
    pod["status"] = {"phase": "Failed", "reason": "Evicted", "containerStatuses": ended}
    world.cluster.create(pod)
    world.settle()


def test_an_evicted_gateway_that_another_one_has_replaced_is_no_problem() -> None:
    world = served()
    evict(world, "gateway")
    assert world.condition("Reconciling") is None
    # Nor is it why others can't start.
    gateway = Key("Deployment", NAMESPACE, f"{NAME}-gateway")
    world.cluster.change(gateway, lambda o: o["status"].update(readyReplicas=1))
    world._work()
    assert world.condition("Reconciling") is None


def test_an_evicted_server_is_not_why_the_one_in_its_place_cannot_start() -> None:
    world = served()
    (revision,) = world.revisions()
    evict(world, revision)
    server = Key("Pod", NAMESPACE, f"{NAME}-{revision}-rs-0")
    full = "0/3 nodes are available: 3 Insufficient cpu."
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": full}
    world.cluster.change(server, lambda o: o["spec"].pop("nodeName"))
    world.report(server, {"phase": "Pending", "conditions": [unplaced]})
    deployment_key = Key("Deployment", NAMESPACE, f"{NAME}-{revision}")
    world.cluster.change(deployment_key, lambda o: o["status"].update(readyReplicas=0))
    world._work()
    assert world.condition("Ready") == ("False", "Unschedulable")


def test_a_first_server_that_takes_longer_than_idle_seconds_is_waited_for() -> None:
    world = World(well=set())
    world.load.idle_seconds = 500.0
    world.create(trained_job(), deployment(scaling={"minReplicas": 0, "maxReplicas": 2, "idleSeconds": 5}))
    world.wait(60)
    assert list(world.revisions().values()) == [1]
    world.well = None
    world.wait(200, step=5)
    assert list(world.revisions().values()) == [0]


def test_servers_that_crash_after_they_were_ready_are_no_readiness() -> None:
    world = served()
    world.well = set()
    world.words = {"reason": "ModelInvalid", "message": "The folder is gone."}
    world.engine.controller.enqueue_all()
    world.settle()
    assert world.condition("Ready") == ("False", "ModelInvalid")
    assert world.condition("ServersReady") == ("False", "ModelInvalid")
    assert world.status["revisions"][0]["state"] == "Serving"
    world.wait(700, step=100)
    assert world.condition("Stalled") is None  # they are started again and again, and one day may be well
    world.well = None
    world.settle()
    assert world.condition("Ready") == ("True", "Serving")


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"reason": "OOMKilled", "exitCode": 137, "message": ""}, "HostOutOfMemory"),
        ({"exitCode": 1, "message": "Traceback"}, "ServerFailed"),
        ({"exitCode": 1, "message": '{"reason": "404", "message": "no"}'}, "ServerFailed"),
        (
            {"reason": "StartError", "exitCode": 128, "message": "exec: python3: not found"},
            "ContainerCannotRun",
        ),
    ],
)
def test_why_servers_end_is_told(ended: dict[str, Any], reason: str) -> None:
    world = World(well=set(), words={"end": ended})
    world.create(trained_job(), deployment(progressDeadlineSeconds=30))
    assert world.condition("ServersReady") == ("False", reason)
    assert world.condition("Ready") == ("False", reason)
    assert world.condition("Stalled") is None
    world.wait(31)
    assert world.condition("Stalled") == ("True", reason)
    world.well = None
    world.settle()
    assert world.condition("Ready") == ("True", "Serving")


@pytest.mark.parametrize(("limit", "drain"), [(4, 120), (300, 300), (3600, 600)])
def test_a_gateway_that_goes_has_time_to_tell_and_then_to_answer(limit: int, drain: int) -> None:
    world = served(traffic={"timeoutSeconds": limit})
    pod = world.cluster.objects[Key("Deployment", NAMESPACE, f"{NAME}-gateway")]["spec"]["template"]
    assert f'"drainSeconds":{drain}.0' in str(pod["metadata"]["annotations"])
    assert pod["spec"]["terminationGracePeriodSeconds"] == codes.ANNOUNCE_SECONDS + drain + 5


def test_a_silent_gateway_keeps_nobody_from_adding_servers_and_lets_none_go() -> None:
    world = served(
        scaling={"minReplicas": 1, "maxReplicas": 8, "target": 10, "scaleDownDelaySeconds": 0},
        gateway={"replicas": 2},
    )
    (revision,) = world.revisions()
    lost = world.probes()[0].name
    world.load.put(running=30, rate=10.0)
    world.wait(20)
    assert world.revisions() == {revision: 3}
    assert [e["reason"] for e in world.cluster.events.values()].count("Scaled") == 1
    world.load.put()
    world._answer()
    world.mute[lost] = world.clock.now().timestamp()
    world.wait(120, step=2)
    assert world.revisions() == {revision: 3}, "what the silent one has now is not known"
    assert world.status["scaling"]["reason"] == "PartialLoad"
    world.load.put(running=100, rate=30.0)
    world.wait(20)
    assert world.revisions() == {revision: 5}, "of the half that is heard"
    world.mute.clear()
    world.load.put()
    world.wait(150, step=2)
    assert world.revisions() == {revision: 1}


@pytest.mark.parametrize("busy", [False, True])
def test_gateways_that_all_fall_silent_are_told_of_soon(busy: bool) -> None:
    world = served(scaling={"minReplicas": 1, "maxReplicas": 4}, gateway={"replicas": 2})
    if busy:
        world.load.put(running=3, rate=10.0)
    world.wait(120, step=5)
    assert world.condition("ScalingReady") == ("True", "Following")
    world.mute = {probe.name: world.clock.now().timestamp() for probe in world.probes()}
    world.wait(SILENT_SECONDS + 3)
    assert world.condition("ScalingReady") == ("False", "LoadUnknown")
    world.mute.clear()
    world.wait(3)
    assert world.condition("ScalingReady") == ("True", "Following")


@pytest.mark.parametrize("running", [0, 6])
def test_an_operator_that_begins_anew_says_nothing_of_a_load_that_it_has_not_asked_for(running: int) -> None:
    world = served(scaling={"minReplicas": 1, "maxReplicas": 4, "target": 10})
    world.load.put(running=running, rate=10.0 * running)
    world.wait(30)
    writes = len(world.cluster.calls)
    world.restart().settle().wait(30)
    assert world.cluster.operations()[writes:] == []


def test_an_operator_that_begins_anew_takes_no_part_of_a_load_for_the_whole() -> None:
    world = served(scaling={"minReplicas": 1, "maxReplicas": 4, "target": 10}, gateway={"replicas": 2})
    world.load.put(running=6, rate=60.0)
    world.wait(30)
    writes = len(world.cluster.calls)
    world.late = {world.probes()[0].name}
    world.restart().settle().wait(1)
    assert world.cluster.operations()[writes:] == []
    world.late.clear()
    world.wait(30)
    assert world.cluster.operations()[writes:] == []


def test_an_operator_that_begins_anew_waits_for_answers_and_doesnt_look_before() -> None:
    world = served(scaling={"minReplicas": 1, "maxReplicas": 4})
    world.late = {probe.name for probe in world.probes()}
    world.restart().settle()
    passes = world.engine.passes
    world.wait(20)
    assert world.engine.passes == passes
    world.late.clear()
    world.settle()
    assert world.engine.passes > passes


def test_an_operator_that_asks_in_vain_says_so_and_the_next_one_says_it_still() -> None:
    world = served(scaling={"minReplicas": 1, "maxReplicas": 4})
    world.deaf = True
    world.restart().settle().wait(5)
    assert world.condition("ScalingReady") == ("False", "LoadUnknown")
    writes = len(world.cluster.calls)
    world.restart().settle().wait(5)
    assert world.cluster.operations()[writes:] == []


def under_traffic() -> tuple[World, Iterator[int]]:
    """A deployment whose load's figures are others at each look; and what to add to them."""
    world = served(scaling={"minReplicas": 1, "maxReplicas": 8, "target": 10})
    noise = itertools.cycle([0, 2, 1, 3, 1])
    for _ in range(26):  # the last write of the figures is a recent one
        world.load.put(running=5 + next(noise), rate=50)
        world.wait(1)
    return world, noise


def test_servers_come_as_soon_as_a_rise_has_settled_also_while_figures_are_written_now_and_then() -> None:
    world, noise = under_traffic()
    (revision,) = world.revisions()
    seconds = 0
    while world.revisions() == {revision: 1}:
        world.load.put(running=35 + next(noise), rate=350)
        world.wait(1)
        seconds += 1
    assert seconds <= 4


def test_a_rise_that_ended_is_forgotten_at_once() -> None:
    world, noise = under_traffic()
    for _ in range(8):
        for running in (35, 5, 5):
            world.load.put(running=running + next(noise), rate=10 * running)
            world.wait(1)
    assert list(world.revisions().values()) == [1]


def test_at_rest_an_answer_that_is_held_back_is_no_old_one() -> None:
    world = served(scaling={"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 300})
    (revision,) = world.revisions()
    assert {p.wait for p in world.probes()} == {60.0}
    writes = len(world.cluster.calls)
    world.wait(200, step=10)
    assert world.revisions() == {revision: 1}
    assert world.condition("ScalingReady") == ("True", "Following")
    assert len(world.cluster.calls) == writes
    world.wait(150, step=10)
    assert world.revisions() == {revision: 0}, "idle is how long nothing was told"


def test_pods_that_end_because_they_are_told_to_are_no_failure() -> None:
    world = served()
    for key in [k for k in world.cluster.objects if k.kind == "Pod"]:
        if "build" in key.name:
            continue
        (container,) = (s["name"] for s in world.cluster.objects[key]["status"]["containerStatuses"])
        ended = {"containerStatuses": [{"name": container, "state": {"terminated": {"exitCode": 0}}}]}
        world.cluster.change(key, lambda o, ended=ended: o.update(status={"phase": "Running", **ended}))  # type: ignore[misc]
        world.cluster.change(key, lambda o: o["metadata"].update(deletionTimestamp=world.time))
    world._work()
    assert world.condition("Reconciling") is None
    assert world.condition("Ready") == ("True", "Serving")


def test_what_the_spec_asks_for_does_not_serve_before_a_server_was_ready() -> None:
    world = World(well=set())
    world.create(trained_job(), deployment())
    assert world.condition("UpToDate") == ("False", "ServerFailed")
    world.well = None
    world.settle()
    assert world.condition("UpToDate") == ("True", "Serving")


def test_time_in_which_nothing_was_to_be_ready_does_not_count_for_the_deadline() -> None:
    world = World(well=set())
    world.create(trained_job(), deployment(progressDeadlineSeconds=60))
    world.edit(suspend=True)
    world.wait(100, step=10)
    assert world.condition("Stalled") is None
    world.edit(suspend=False)
    awaited = {"type": "Available", "status": "False", "lastTransitionTime": world.time}
    world.unavailable = awaited
    world.settle()
    assert world.condition("Stalled") is None
    world.wait(70, step=10)
    assert world.condition("Stalled") is not None


def test_servers_that_crash_while_another_model_is_awaited_are_the_reason() -> None:
    world = served()
    world.well = set()
    world.words = {"end": {"reason": "OOMKilled", "exitCode": 137, "message": ""}}
    key = Key("TrainingJob", NAMESPACE, NAME)
    waits = {"type": "Ready", "status": "False", "reason": "Progressing", "message": "It trains."}
    again = {"observedGeneration": 1, "phase": "Training", "conditions": [waits]}
    world.cluster.change(key, lambda o: o.update(status=again))
    world.engine.controller.enqueue_all()
    world.settle()
    assert world.condition("Ready") == ("False", "HostOutOfMemory")


def test_a_change_of_the_number_is_told_with_its_reason_once() -> None:
    world = served(
        scaling={"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 30, "scaleDownDelaySeconds": 0}
    )
    world.wait(150, step=5)
    assert list(world.revisions().values()) == [0]
    world.load.queued = 2
    world._answer()
    world.settle()
    told = [e["message"] for e in world.cluster.events.values() if e["reason"] == "Scaled"]
    assert sorted(told) == ["0 to 1 servers: FromZero.", "1 to 0 servers: Idle."]
    assert world.status["scaling"]["lastScaleTime"] == world.time


def test_servers_drain_for_as_long_as_their_pods_have() -> None:
    world = World()
    overlay = {"spec": {"terminationGracePeriodSeconds": 610}}
    world.create(trained_job(), deployment(server={"podTemplate": overlay}))
    (revision,) = world.revisions()
    made = world.cluster.objects[Key("Deployment", NAMESPACE, f"{NAME}-{revision}")]["spec"]["template"]
    assert made["spec"]["terminationGracePeriodSeconds"] == 610
    assert '"drainSeconds":600' in str(made["metadata"]["annotations"])


def test_servers_that_an_operator_added_and_did_not_live_to_tell_of_stay_for_their_delay() -> None:
    world = served(scaling={"minReplicas": 1, "maxReplicas": 8, "target": 10})
    (revision,) = world.revisions()
    told = {**world.status["scaling"]}
    world.load.put(running=30, rate=10.0)
    world.wait(20)
    assert world.revisions() == {revision: 3}
    world.cluster.change(KEY, lambda o: o["status"].update(scaling=told))
    world.load.put()
    world.restart()
    world.wait(30)
    assert world.revisions() == {revision: 3}
