"""Storage that doesn't come: who says why, and when it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.engine.probe import EventProbe

from tests.builders import TrainingJobBuilder
from tests.unit.training.simulation import Simulation

CLAIM = "PersistentVolumeClaim/sentiment-storage"
UNBOUND = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."


def pending(stage: str = "prepare", storage_class: str | None = "fast", **fact: Any) -> Simulation:
    """A job whose pod waits for a claim that nobody has bound."""
    simulation = Simulation(TrainingJobBuilder())
    if stage == "train":
        simulation.prepare()
    else:
        simulation.step()
    claim = simulation.objects[CLAIM]
    claim["status"] = {"phase": "Pending"}
    if storage_class:
        claim["spec"]["storageClassName"] = storage_class
    pod = simulation.pod(f"sentiment-{stage}-1").unscheduled(UNBOUND)
    pod._pod["spec"].pop("nodeName")
    simulation.put(pod)
    if fact:
        simulation.facts[f"events-{claim['metadata']['uid']}"] = {"events": [fact]}
    simulation.settle()
    return simulation


def asked(simulation: Simulation) -> list[EventProbe]:
    return [p for p in simulation.plan.probes if isinstance(p, EventProbe) and "Claim" in p.kind]


CASES = {
    "the class does not exist": (
        "fast", 'storageclass.storage.k8s.io "fast" not found', "StorageClassNotFound", "StorageClass fast"
    ),
    "the provisioner has no room": (
        "fast", "rpc error: code = ResourceExhausted: pool is full", "ProvisioningFailed", "pool is full."
    ),
    "nobody has said anything": ("fast", None, "VolumePending", "StorageClass fast"),
    "there is no default class": (None, None, "StorageClassNotFound", "no default"),
}  # fmt: skip


@pytest.mark.parametrize("stage", ["prepare", "train"])
@pytest.mark.parametrize("name", CASES)
def test_storage_that_does_not_come_is_named(name: str, stage: str) -> None:
    storage_class, sentence, reason, words = CASES[name]
    fact = {"reason": "ProvisioningFailed", "message": sentence} if sentence else {}
    simulation = pending(stage, storage_class, **fact)
    assert simulation.condition("Ready") == ("False", reason)
    assert simulation.condition("PodsReady") == ("False", reason)
    assert words in simulation.message()
    assert simulation.condition("Stalled")[0] == "absent", "it goes on by itself once there is a volume"
    if stage == "prepare":
        assert simulation.condition("DataReady") == ("False", reason)


def test_a_volume_that_is_being_made_for_a_chosen_node_is_asked_for_before_anybody_complains() -> None:
    simulation = pending(reason="ProvisioningFailed", message="quota of the cloud is used up")
    pod = simulation.pod("sentiment-prepare-1")  # the scheduler waits for the volume, and says nothing
    pod._pod["spec"].pop("nodeName")
    simulation.put(pod).settle()
    assert simulation.condition("Ready") == ("False", "ProvisioningFailed")


def test_events_are_read_only_while_a_pod_waits_for_the_claim() -> None:
    simulation = pending()
    assert len(asked(simulation)) == 1
    assert asked(simulation)[0].after > 0
    simulation.objects[CLAIM]["status"] = {"phase": "Bound"}
    simulation.settle()
    assert asked(simulation) == []
    simulation.objects[CLAIM]["status"] = {"phase": "Pending"}
    simulation.run("sentiment-prepare-1", 1).settle()
    assert asked(simulation) == []


def test_a_pod_that_waits_for_something_else_asks_nothing() -> None:
    simulation = pending()
    pod = simulation.pod("sentiment-prepare-1").unscheduled("0/3 nodes are available: 3 Insufficient cpu.")
    simulation.put(pod).settle()
    assert asked(simulation) == []
    assert simulation.condition("Ready") == ("False", "Unschedulable")


def test_a_claim_of_the_users_that_is_being_deleted_is_named_by_the_scheduler() -> None:
    simulation = Simulation(TrainingJobBuilder().spec("storage", {"uri": "pvc://mine/models"}))
    simulation.step()
    message = '0/1 nodes are available: persistentvolumeclaim "mine" is being deleted.'
    simulation.put(simulation.pod("sentiment-prepare-1").unscheduled(message)).settle()
    assert simulation.condition("Ready") == ("False", "StorageTerminating")
    assert "kubectl describe pvc mine" in simulation.message()


MULTI_ATTACH = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) sentiment-train-1-0'
APART = (
    "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match PersistentVolume's node affinity."
)
APART_BEFORE = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had volume node affinity conflict."


def second_pod(*, placed: bool = True) -> Simulation:
    """Two training pods; the first one runs if it is `placed`. The second is yet to come."""
    simulation = Simulation(TrainingJobBuilder().nodes(2)).prepare()
    pod = simulation.pod("sentiment-train-1", 0)
    if placed:
        return simulation.put(pod.running(simulation.time))
    pod._pod["spec"].pop("nodeName")
    return simulation.put(pod.unscheduled(APART))


def test_a_volume_that_is_attached_to_another_pods_node_is_named_with_its_claim() -> None:
    simulation = second_pod()
    waiting = simulation.pod("sentiment-train-1", 1)
    simulation.put(waiting).settle()
    body = waiting.build()
    fact = {"reason": "FailedAttachVolume", "message": MULTI_ATTACH}
    simulation.facts[f"events-{body['metadata']['uid']}"] = {"events": [fact]}
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "VolumeNotShared")
    for words in ("PersistentVolumeClaim sentiment-storage", "ReadWriteMany", "numNodes: 1", "Multi-Attach"):
        assert words in simulation.message()
    assert simulation.condition("Stalled")[0] == "absent"


@pytest.mark.parametrize("words", [APART, APART_BEFORE])
def test_a_volume_that_binds_its_pods_to_one_node_is_named_with_its_claim(words: str) -> None:
    simulation = second_pod()
    simulation.put(simulation.pod("sentiment-train-1", 1).unscheduled(words)).settle()
    assert simulation.condition("Ready") == ("False", "VolumeNotShared")
    assert "PersistentVolumeClaim sentiment-storage" in simulation.message()


def test_pods_of_which_none_has_a_node_do_not_fight_over_a_volume() -> None:
    simulation = second_pod(placed=False)
    pod = simulation.pod("sentiment-train-1", 1).unscheduled(APART)
    pod._pod["spec"].pop("nodeName")
    simulation.put(pod).settle()
    assert simulation.condition("Ready") == ("False", "Unschedulable")


def test_a_single_pod_whose_volume_is_still_elsewhere_waits_for_it() -> None:
    simulation = Simulation(TrainingJobBuilder()).prepare()
    waiting = simulation.pod("sentiment-train-1", 0)
    simulation.put(waiting).settle()
    fact = {"reason": "FailedAttachVolume", "message": MULTI_ATTACH}
    simulation.facts[f"events-{waiting.build()['metadata']['uid']}"] = {"events": [fact]}
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "VolumeMountFailed")


def test_pods_on_one_node_share_a_volume_that_is_still_elsewhere_and_wait_for_it() -> None:
    simulation = Simulation(TrainingJobBuilder().nodes(2)).prepare()
    together = [simulation.pod("sentiment-train-1", index) for index in (0, 1)]
    for pod in together:
        pod._pod["spec"]["nodeName"] = "node-5"
    simulation.put(*together).settle()
    uid = together[1].build()["metadata"]["uid"]
    simulation.facts[f"events-{uid}"] = {
        "events": [{"reason": "FailedAttachVolume", "message": MULTI_ATTACH}]
    }
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "VolumeMountFailed")


def after_loss() -> Simulation:
    """A job whose first attempt has lost its node, and whose second has begun."""
    simulation = Simulation(TrainingJobBuilder()).prepare()
    simulation.run("sentiment-train-1", 1).settle()
    simulation.put(simulation.pod("sentiment-train-1").running(simulation.time).deleted(simulation.time))
    simulation.advance(31).settle()
    simulation.advance(11).settle()
    assert simulation.status["attempts"][0]["failure"]["reason"] == "NodeLost"
    return simulation


def is_held(simulation: Simulation) -> bool:
    held = simulation.condition("Ready") == ("False", "VolumeHeld")
    return held and all(
        words in simulation.message()
        for words in ("pod sentiment-train-1-0", "kubectl delete node node-0", "Claim sentiment-storage")
    )


def test_a_volume_that_a_lost_node_holds_is_named_with_the_node() -> None:
    simulation = after_loss()
    waiting = simulation.pod("sentiment-train-2")
    simulation.put(waiting).settle()
    fact = {"reason": "FailedAttachVolume", "message": MULTI_ATTACH}
    simulation.facts[f"events-{waiting.build()['metadata']['uid']}"] = {"events": [fact]}
    simulation.settle()
    assert is_held(simulation)


def test_a_claim_for_one_pod_that_a_lost_node_holds_is_named_with_the_node() -> None:
    simulation = after_loss()
    words = "1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode."
    simulation.put(
        simulation.pod("sentiment-train-2").unscheduled(f"0/1 nodes are available: {words}")
    ).settle()
    assert is_held(simulation)
    simulation.put(
        simulation.pod("sentiment-train-2").unscheduled("0/1 nodes are available: 1 Insufficient cpu.")
    )
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "Unschedulable")


@pytest.mark.parametrize("kept", [True, False])
def test_a_claim_that_an_earlier_job_of_the_name_has_kept_is_used_and_stays_kept(kept: bool) -> None:
    simulation = Simulation(TrainingJobBuilder())
    owner = {"uid": simulation.job["metadata"]["uid"], "controller": True}
    metadata = {"name": "sentiment-storage", "uid": "u", "ownerReferences": [] if kept else [owner]}
    simulation.objects[CLAIM] = {"kind": "PersistentVolumeClaim", "metadata": metadata}
    (claim,) = (child for child in simulation.step().children if child.id == CLAIM)
    assert claim.detached is kept
