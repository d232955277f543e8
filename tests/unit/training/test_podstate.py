"""Each state of a pod that isn't progress is named within one pass, with what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.builders import PodBuilder, TrainingJobBuilder
from tests.unit.training.simulation import Simulation

Change = Callable[[PodBuilder], PodBuilder]
NO_NODE = "0/3 nodes are available: 3 Insufficient cpu."
NO_CLAIM = 'persistentvolumeclaim "inputs" not found'

CASES: dict[str, tuple[Change, str, str]] = {
    "an image that can't be pulled": (
        lambda p: p.waiting("ImagePullBackOff", "Back-off pulling image"),
        "ImagePullFailed",
        "registry.example/none:1",
    ),
    "an image that is pulled for the first time in vain": (
        lambda p: p.waiting("ErrImagePull", "x"),
        "ImagePullFailed",
        "name",
    ),
    "no node with enough of everything": (
        lambda p: p.unscheduled(NO_NODE),
        "Unschedulable",
        "Insufficient cpu",
    ),
    "a claim that does not exist": (lambda p: p.unscheduled(NO_CLAIM), "ClaimNotFound", "'inputs'"),
    "a claim that is not bound": (
        lambda p: p.unscheduled("pod has unbound immediate PersistentVolumeClaims"),
        "VolumePending",
        "bound",
    ),
    "a Secret that is missing": (
        lambda p: p.waiting("CreateContainerConfigError", 'secret "hub" not found'),
        "CreateContainerConfigError",
        'secret "hub" not found',
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_is_named_and_cures_itself(name: str, stage: str) -> None:
    change, reason, words = CASES[name]
    simulation = Simulation(TrainingJobBuilder())
    if stage == "train":
        simulation.prepare()
    else:
        simulation.step()
    job = f"sentiment-{stage}-1"
    simulation.named(job)["status"] = {"active": 1}
    simulation.put(change(simulation.pod(job)))
    simulation.step()
    assert simulation.condition("Ready") == ("False", reason)
    assert simulation.condition("Reconciling") == ("True", reason)
    assert simulation.condition("PodsReady") == ("False", reason)
    assert simulation.condition("Progressing")[0] == "False"
    assert words in simulation.message()
    if stage == "prepare":
        assert simulation.condition("DataReady") == ("False", reason)
    assert simulation.events[-1] == reason
    simulation.run(job, 1).settle()
    assert simulation.condition("Reconciling") == ("True", "Progressing")
    assert simulation.condition("PodsReady") == ("True", "Running")


def test_a_job_that_makes_no_pods_is_noticed_in_time() -> None:
    simulation = Simulation(TrainingJobBuilder()).prepare()
    simulation.step()
    assert simulation.plan.requeue_after is not None
    assert simulation.plan.requeue_after <= 61
    simulation.advance(simulation.plan.requeue_after).step()
    assert simulation.condition("PodsReady") == ("False", "PodsNotCreated")
    assert "kubectl describe job sentiment-train-1" in simulation.message()


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_job_that_has_waited_long_is_not_looked_at_for_nothing(stage: str) -> None:
    simulation = Simulation(TrainingJobBuilder())
    if stage == "train":
        simulation.prepare()
    else:
        simulation.step()
    simulation.settle()
    assert simulation.plan.requeue_after is not None
    simulation.advance(3600).settle()
    assert simulation.plan.requeue_after is None


def test_a_gang_of_which_a_part_runs_is_named() -> None:
    simulation = Simulation(TrainingJobBuilder().nodes(2)).prepare()
    simulation.put(simulation.pod("sentiment-train-1", 0).running(simulation.time)).settle()
    simulation.advance(61).step()
    assert simulation.condition("PodsReady") == ("False", "PartialGang")


def test_a_pod_that_waits_long_for_its_volumes_is_named() -> None:
    simulation = Simulation(TrainingJobBuilder()).prepare()
    simulation.put(simulation.pod("sentiment-train-1").waiting("ContainerCreating")).settle()
    assert simulation.condition("Reconciling") == ("True", "Progressing")
    simulation.advance(61).step()
    assert simulation.condition("PodsReady") == ("False", "VolumePending")


def test_a_large_image_is_not_taken_for_a_missing_volume() -> None:
    simulation = Simulation(TrainingJobBuilder()).prepare()
    pod = (
        simulation.pod("sentiment-train-1")
        .condition("PodReadyToStartContainers", "True", "")
        .waiting("ContainerCreating")
    )
    simulation.put(pod).advance(300).step()
    assert simulation.condition("PodsReady") == ("False", "Starting")
