"""Where models are kept: found once, and left alone as long as nobody says otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.api.profile import ProfileStorage
from modelyard.engine.plan import Key

from tests.unit.serving.world import NAME, NAMESPACE, World, deployment, trained_job

OWN = f"{NAME}-models"
ELSEWHERE = {"uri": "pvc://models/mine"}
JOB = Key("TrainingJob", NAMESPACE, NAME)


def mounted(world: World) -> set[str]:
    """Claims that servers have for their storage."""
    return {
        volume["persistentVolumeClaim"]["claimName"]
        for key, obj in world.cluster.objects.items()
        if key.kind == "Deployment"
        for volume in obj["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }


def edit_profile(world: World, **storage: Any) -> None:
    """The platform team names other storage."""
    profile = world.settings.profiles["default"]
    world.settings.profiles["default"] = profile.model_copy(update={"storage": ProfileStorage(**storage)})
    world.engine.controller.enqueue_all()
    world.settle()


def served_from_its_own() -> World:
    """A deployment whose models are in a claim of its own."""
    world = World()
    world.create(deployment(model=ELSEWHERE))
    assert world.condition("Ready") == ("True", "Serving")
    assert (world.status["storage"], world.status["storageChoice"]) == (f"pvc://{OWN}", "Nobody")
    assert (world.names("PersistentVolumeClaim"), mounted(world)) == ([OWN], {OWN})
    return world


def served_from_a_job_that_keeps_its_model_elsewhere() -> World:
    """Its TrainingJob's own program has put the model outside of the layout."""
    world, job = World(), trained_job()
    job["status"]["model"]["uri"] = "pvc://mine/exported"
    world.create(job, deployment())
    assert world.names("PersistentVolumeClaim") == [OWN]
    return world


def test_while_no_model_is_found_nothing_is_made_to_keep_it() -> None:
    world, job = World(), trained_job(phase="Training")
    del job["status"]["completionTime"]
    world.create(job, deployment())
    assert "storage" not in world.status
    world.train_anew("sha256-" + "3" * 64)
    assert world.condition("Ready") == ("True", "Serving")
    assert (world.status["storage"], world.status["storageChoice"]) == (f"pvc://{NAME}-storage", "Job")
    assert not [call for call in world.cluster.operations() if "PersistentVolumeClaim" in call]


@pytest.mark.parametrize("gone", [True, False])
def test_a_job_that_goes_or_trains_anew_takes_no_claim_with_it(gone: bool) -> None:
    world = served_from_a_job_that_keeps_its_model_elsewhere()
    before, jobs = world.revisions(), world.names("Job")
    if gone:
        world.cluster.erase(JOB)
    else:
        world.cluster.change(JOB, lambda o: o["status"].update(observedGeneration=0, phase="Training"))
    world.settle()
    assert world.names("PersistentVolumeClaim") == [OWN]
    assert world.condition("Ready") == ("True", "Serving")
    assert (world.revisions(), world.names("Job")) == (before, jobs)


def test_a_profile_that_names_storage_later_moves_nothing() -> None:
    world = served_from_its_own()
    before, jobs = world.revisions(), world.names("Job")
    edit_profile(world, uri="pvc://shared/models")
    assert world.condition("UpToDate") == ("True", "Serving")
    assert world.condition("Built") == ("True", "Built")
    assert (world.names("PersistentVolumeClaim"), world.names("Job")) == ([OWN], jobs)
    assert world.revisions() == before
    # Nor does another build, once the spec asks for one.
    world.edit(server={"maxLength": 64})
    world.wait(3)
    assert mounted(world) == {OWN}


def test_a_profile_that_names_other_storage_later_moves_nothing() -> None:
    world = World()
    edit_profile(world, uri="pvc://shared/models")
    world.create(deployment(model=ELSEWHERE))
    assert (world.status["storage"], world.status["storageChoice"]) == ("pvc://shared/models", "Profile")
    edit_profile(world, uri="pvc://other")
    assert mounted(world) == {"shared"}
    assert world.status["storage"] == "pvc://shared/models"


def test_storage_that_the_user_names_is_moved_to_while_the_old_claim_stays() -> None:
    world = served_from_its_own()
    (old,) = world.revisions()
    result, world.result = world.result, None
    world.edit(storage={"uri": "pvc://other"})
    assert world.condition("Ready") == ("True", "Serving")
    assert world.condition("UpToDate") == ("False", "Building")
    assert world.names("PersistentVolumeClaim") == [OWN]
    assert list(world.revisions()) == [old]
    world.result = result
    world.wait(3)
    assert world.condition("UpToDate") == ("True", "Serving")
    assert (mounted(world), world.names("PersistentVolumeClaim")) == ({"other"}, [OWN])
    assert world.status["storageChoice"] == "Spec"
    # Taken back, it is where it was before.
    world.cluster.change(Key("ModelDeployment", NAMESPACE, NAME), lambda o: o["spec"].pop("storage"))
    world.settle().wait(3)
    assert (world.status["storage"], world.status["storageChoice"]) == (f"pvc://{OWN}", "Nobody")
    assert mounted(world) == {OWN}


def test_a_model_from_elsewhere_is_not_kept_in_the_storage_of_the_job_before() -> None:
    world = World()
    world.create(trained_job(), deployment())
    world.edit(model=ELSEWHERE)
    assert (world.status["storage"], world.status["storageChoice"]) == (f"pvc://{OWN}", "Nobody")


def test_its_claim_goes_with_the_deployment() -> None:
    world = served_from_its_own()
    world.edit(storage={"uri": "pvc://other"})
    world.cluster.erase(Key("ModelDeployment", NAMESPACE, NAME))
    assert world.names("PersistentVolumeClaim") == []


RETAINED = {"claim": {"retain": True}}
KEY = Key("ModelDeployment", NAMESPACE, NAME)
CLAIM = Key("PersistentVolumeClaim", NAMESPACE, OWN)


def is_kept(world: World) -> bool:
    return "ownerReferences" not in world.cluster.objects[CLAIM]["metadata"]


def told(world: World) -> str:
    return next(str(c["message"]) for c in world.status["conditions"] if c["type"] == "Ready")


def test_a_claim_that_is_kept_is_used_whatever_is_said_of_it_later() -> None:
    world = World()
    world.create(deployment(model=ELSEWHERE, storage=RETAINED))
    made = world.cluster.objects[CLAIM]["metadata"]["uid"]
    said: tuple[dict[str, Any], ...] = ({"claim": {}}, {}, RETAINED)
    for storage in said:
        world.edit(storage=storage).wait(3)
        assert world.condition("Ready") == ("True", "Serving"), told(world)
    # By another deployment of the name, too.
    world.cluster.erase(KEY)
    world.create(deployment(model=ELSEWHERE))
    assert world.condition("Ready") == ("True", "Serving"), told(world)
    assert is_kept(world) and world.cluster.objects[CLAIM]["metadata"]["uid"] == made
    world.cluster.erase(KEY)
    assert world.names("PersistentVolumeClaim") == [OWN]


def test_a_claim_that_goes_with_its_deployment_is_not_silently_taken_for_one_that_stays() -> None:
    world = served_from_its_own()
    world.edit(storage={"uri": "pvc://other"}).wait(3)
    world.edit(storage=RETAINED)
    assert world.condition("Stalled") == ("True", "InvalidSpec")
    message = next(c["message"] for c in world.status["conditions"] if c["type"] == "Stalled")
    assert f"kubectl patch pvc {OWN}" in message
    assert world.condition("Ready") == ("True", "Serving")
    world.cluster.change(CLAIM, lambda o: o["metadata"].pop("ownerReferences"))
    world.settle().wait(3)
    assert world.condition("Stalled") is None
    assert mounted(world) == {OWN}


def test_whose_claim_is_somebody_elses_is_told_to_name_it_and_not_to_delete_it() -> None:
    world = World()
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
             "metadata": {"name": OWN, "namespace": NAMESPACE},
             "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Ti"}}}}  # fmt: skip
    world.create(claim, deployment(model=ELSEWHERE))
    assert world.condition("Ready") == ("False", "NameTaken")
    assert f"spec.storage.uri: pvc://{OWN}" in told(world) and "elete" not in told(world)


@pytest.mark.parametrize(
    ("claim", "what"),
    [
        (OWN, "the model's storage"),
        ("models", "read by the build"),
    ],
)
def test_no_claim_is_mounted_a_second_time(claim: str, what: str) -> None:
    volume = {"name": "mine", "persistentVolumeClaim": {"claimName": claim}}
    world = World()
    world.create(deployment(model=ELSEWHERE, server={"podTemplate": {"spec": {"volumes": [volume]}}}))
    assert world.condition("Stalled") == ("True", "InvalidSpec")
    assert what in next(c["message"] for c in world.status["conditions"] if c["type"] == "Stalled")
    assert world.names("Job") == []


def test_the_data_of_the_models_job_is_mounted_already_too() -> None:
    volume = {"name": "mine", "persistentVolumeClaim": {"claimName": f"{NAME}-storage"}}
    world = World()
    server = {"podTemplate": {"spec": {"volumes": [volume]}}}
    world.create(trained_job(), deployment(storage={"uri": "pvc://other"}, server=server))
    assert world.condition("Stalled") == ("True", "InvalidSpec")


def test_a_job_that_was_told_no_task_may_go_without_another_build() -> None:
    world, job = World(), trained_job()
    job["spec"] = {"trainer": {"command": ["train"], "image": "i:1"}}
    world.create(job, deployment())
    jobs, revisions = world.names("Job"), world.revisions()
    world.cluster.erase(JOB)
    world.settle()
    assert (world.names("Job"), world.revisions()) == (jobs, revisions)
    assert world.condition("UpToDate") == ("True", "Serving")
