"""Containers that others put into our pods neither hide ours nor hold the job up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import PodBuilder, TrainingJobBuilder
from tests.unit.training.simulation import Simulation

# The kubelet sorts statuses by name: one is before all of ours, one after.
NAMES = ["aaa-mesh", "zzz-shipper"]
PREPARED = {"stage": "prepare", "outcome": "succeeded", "digest": "sha256-d", "modelDigest": "sha256-m"}
TRAINED = {
    "stage": "train",
    "outcome": "succeeded",
    "attempt": 1,
    "step": 9,
    "model": {"path": "runs/m", "digest": "sha256-x"},
}
STOPPED = {"stage": "train", "outcome": "preempted", "attempt": 1, "step": 5}
CRASHED = {
    "stage": "train",
    "outcome": "failed",
    "attempt": 1,
    "failure": {"reason": "UserCodeError", "message": "rank 0 broke", "exitCode": 1},
}
LOST = {**CRASHED, "failure": {"reason": "RendezvousFailed", "message": "no master"}}


def preparing() -> Simulation:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    simulation.run("sentiment-prepare-1", 1).settle()
    return simulation.advance(5)


def training(nodes: int = 1) -> Simulation:
    simulation = Simulation(TrainingJobBuilder().nodes(nodes)).prepare()
    simulation.run("sentiment-train-1", nodes).settle()
    return simulation.advance(100)


def ended(simulation: Simulation, job: str, code: int, result: Any, index: int = 0) -> PodBuilder:
    return simulation.pod(job, index).ended(code, result, end=simulation.time)


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_read_from_our_container_whatever_stands_beside_it(name: str) -> None:
    simulation = preparing()
    simulation.put(ended(simulation, "sentiment-prepare-1", 0, PREPARED).beside(name, 0))
    simulation.end("sentiment-prepare-1", "Complete").settle()
    assert simulation.condition("DataReady") == ("True", "Prepared")
    simulation.run("sentiment-train-1", 1).settle()
    simulation.put(ended(simulation, "sentiment-train-1", 0, TRAINED).beside(name, 0))
    simulation.end("sentiment-train-1", "Complete").settle()
    assert simulation.condition("Succeeded")[0] == "True"
    assert "ContainerRunsOn" not in simulation.events


def test_a_container_that_a_policy_puts_into_the_jobs_themselves_changes_nothing() -> None:
    simulation = Simulation(TrainingJobBuilder().spec("storage", {"uri": "pvc://shared/runs"}))
    simulation.step()
    simulation.facts["claim-shared"] = {"found": True, "ending": False}
    for job, result in (("sentiment-prepare-1", PREPARED), ("sentiment-train-1", TRAINED)):
        template = simulation.named(job)["spec"]["template"]["spec"]
        template["containers"].insert(0, {"name": "aaa-mesh", "image": "registry.example/mesh:1"})
        simulation.run(job, 1).settle()
        simulation.put(ended(simulation, job, 0, result).beside(code=0)).end(job, "Complete").settle()
    assert simulation.condition("Succeeded")[0] == "True"
    assert simulation.status["model"]["uri"].startswith("pvc://shared/runs/")


@pytest.mark.parametrize("name", NAMES)
def test_a_preparation_is_over_when_our_container_is_and_the_other_is_named(name: str) -> None:
    simulation = preparing()
    simulation.put(ended(simulation, "sentiment-prepare-1", 0, PREPARED).beside(name)).settle()
    assert simulation.condition("DataReady")[0] == "False", "a container may leave soon after ours"
    assert simulation.plan.requeue_after is not None
    assert simulation.plan.requeue_after <= 3
    simulation.advance(3).settle()
    assert simulation.condition("DataReady") == ("True", "Prepared")
    assert simulation.events.count("ContainerRunsOn") == 1
    assert name in simulation.message()
    assert "native sidecar" in simulation.message()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-train-1"]
    simulation.advance(28).settle()
    assert simulation.jobs() == ["sentiment-train-1"]
    assert name not in simulation.message()


def test_a_native_sidecar_that_the_kubelet_is_ending_is_no_reason_for_a_warning() -> None:
    simulation = preparing()
    pod = ended(simulation, "sentiment-prepare-1", 0, PREPARED).says(phase="Running")
    simulation.put(pod.init("mesh", {"running": {}}, ready=True)).advance(20).settle()
    assert simulation.condition("DataReady")[0] == "False", "the pod ends by itself"
    assert simulation.events.count("ContainerRunsOn") == 0
    simulation.put(ended(simulation, "sentiment-prepare-1", 0, PREPARED)).end(
        "sentiment-prepare-1", "Complete"
    )
    assert simulation.settle().status["data"]["digest"] == "sha256-d"


def test_an_operator_that_was_away_records_what_pods_said_before_it_lets_them_go() -> None:
    simulation = preparing()
    simulation.put(ended(simulation, "sentiment-prepare-1", 0, PREPARED).beside()).advance(600)
    plan = simulation.decide()
    assert plan.status["data"]["digest"] == "sha256-d"
    assert "Job/sentiment-prepare-1" in plan.keep, "its status may never be written"
    simulation.settle()
    assert simulation.jobs() == ["sentiment-train-1"]


def test_a_training_is_over_when_our_containers_are_and_its_pods_go_after_a_grace() -> None:
    simulation = training(nodes=2)
    first = ended(simulation, "sentiment-train-1", 0, {**TRAINED, "node": 1}, 1).beside()
    simulation.put(first).advance(50).settle()
    assert simulation.condition("Succeeded")[0] == "absent"
    assert simulation.condition("PodsReady") == ("True", "Running"), "rank 0 is still at work"
    simulation.put(ended(simulation, "sentiment-train-1", 0, TRAINED).beside()).settle()
    simulation.advance(3).settle()
    assert simulation.condition("Succeeded")[0] == "True"
    assert simulation.events.count("ContainerRunsOn") == 1
    assert "mesh" not in simulation.message()
    assert "sentiment-train-1" in simulation.jobs()
    assert simulation.plan.requeue_after is not None
    simulation.advance(30).settle()
    assert simulation.jobs() == ["sentiment-prepare-1"]
    assert simulation.plan.requeue_after is None


@pytest.mark.parametrize("gone", ["the Job", "its pods"])
def test_a_failed_preparation_that_is_held_open_is_tried_again_and_not_sooner_than_told(gone: str) -> None:
    simulation = preparing()
    failure = {"stage": "prepare", "outcome": "failed", "failure": {"reason": "SourceUnreachable"}}
    simulation.put(ended(simulation, "sentiment-prepare-1", 75, failure).beside()).settle()
    simulation.advance(3).settle()
    assert simulation.status["counters"]["infraFailures"] == 1
    assert simulation.condition("DataReady") == ("False", "SourceUnreachable")
    if gone == "the Job":
        simulation.remove("Job/sentiment-prepare-1")
    else:
        simulation.vanish("sentiment-prepare-1")
    simulation.advance(2).settle()
    assert "sentiment-prepare-2" not in simulation.jobs()
    simulation.advance(30).settle()
    assert "sentiment-prepare-2" in simulation.jobs()
    assert simulation.status["counters"]["infraFailures"] == 1


def test_a_crash_beside_a_container_that_runs_on_stops_the_other_pods_and_counts_as_one() -> None:
    simulation = training(nodes=2)
    simulation.put(ended(simulation, "sentiment-train-1", 1, CRASHED).beside()).settle()
    assert not simulation.named("sentiment-train-1")["spec"].get("suspend")
    simulation.advance(3).settle()
    assert simulation.named("sentiment-train-1")["spec"]["suspend"] is True
    assert simulation.status["phase"] == "Recovering"
    simulation.advance(2)
    simulation.put(ended(simulation, "sentiment-train-1", 143, STOPPED, 1).beside()).settle()
    simulation.advance(3).settle()
    (attempt,) = simulation.status["attempts"]
    assert (attempt["cause"], attempt["failure"]["reason"]) == ("UserError", "UserCodeError")
    simulation.advance(60).settle()
    assert "sentiment-train-2" in simulation.jobs()
    assert "sentiment-train-1" not in simulation.jobs()


@pytest.mark.parametrize("vanished", [False, True])
def test_a_temporary_failure_beside_a_container_that_runs_on_is_no_suspension(vanished: bool) -> None:
    simulation = training(nodes=2)
    simulation.put(ended(simulation, "sentiment-train-1", 75, LOST).beside()).advance(3).settle()
    simulation.put(ended(simulation, "sentiment-train-1", 143, STOPPED, 1).beside()).advance(3)
    if vanished:  # the operator was away until the Job controller had removed them
        pods = [
            ended(simulation, "sentiment-train-1", 75, LOST).deleted(simulation.time),
            ended(simulation, "sentiment-train-1", 143, STOPPED, 1).deleted(simulation.time),
        ]
        simulation.depart(*pods).named("sentiment-train-1")["status"] = {"active": 0}
    simulation.settle()
    (attempt,) = simulation.status["attempts"]
    assert (attempt["cause"], attempt["failure"]["reason"]) == ("Infrastructure", "RendezvousFailed")


def test_a_lost_result_is_collected_although_the_collecting_pod_is_held_open() -> None:
    simulation = training()
    simulation.put(ended(simulation, "sentiment-train-1", 0, None).beside()).settle()
    simulation.advance(3).settle()
    assert simulation.jobs()[0] == "sentiment-collect-1"
    simulation.put(ended(simulation, "sentiment-collect-1", 0, TRAINED).beside()).settle()
    assert simulation.condition("Succeeded")[0] == "True"
    simulation.advance(31).settle()
    assert simulation.jobs() == ["sentiment-prepare-1"]


def test_a_collecting_pod_that_is_held_open_without_a_result_has_failed() -> None:
    simulation = training()
    simulation.put(ended(simulation, "sentiment-train-1", 0, None).beside()).advance(3).settle()
    simulation.put(ended(simulation, "sentiment-collect-1", 75, LOST).beside()).settle()
    simulation.advance(3).settle()
    assert simulation.status["attempts"][0]["failure"]["reason"] == "ResultLost"


def test_a_preparation_without_a_word_is_tried_again_ever_later_and_not_for_ever() -> None:
    simulation = Simulation(TrainingJobBuilder().spec("failurePolicy", {"maxInfraRestarts": 3}))
    simulation.settle()
    waits = []
    for index in range(1, 5):
        name = f"sentiment-prepare-{index}"
        simulation.put(simulation.pod(name).ended(0)).end(name, "Complete").settle()
        if index == 4:
            break
        waits.append(0)
        while simulation.jobs()[-1] == name:
            waits[-1] += 1
            simulation.advance(1).settle()
    assert waits == sorted(waits)
    assert 1 < waits[0] < waits[-1]
    assert simulation.condition("Stalled") == ("True", "RestartLimit")
    assert "word of its pod is lost" in simulation.message("Stalled")


def test_preparations_that_others_delete_end_at_the_limit() -> None:
    simulation = Simulation(TrainingJobBuilder().spec("failurePolicy", {"maxInfraRestarts": 2}))
    for _ in range(3):
        simulation.advance(1000).settle()
        (name,) = simulation.jobs()
        simulation.remove(f"Job/{name}")
        simulation.settle()
        assert simulation.jobs() == []
    assert simulation.condition("Stalled") == ("True", "RestartLimit")
    assert "deleted" in simulation.message("Stalled")


@pytest.mark.parametrize("stage", ["prepare", "train"])
def test_a_job_that_another_controller_suspends_at_birth_is_waited_for(stage: str) -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    if stage == "train":
        simulation.prepare()
    name = f"sentiment-{stage}-1"
    simulation.named(name)["spec"]["suspend"] = True
    for _ in range(5):
        simulation.advance(600).settle()
    assert name in simulation.jobs()
    assert len(simulation.jobs()) <= 2
    assert simulation.condition("Ready") == ("False", "JobSuspended")
    simulation.named(name)["spec"]["suspend"] = False
    simulation.run(name, 1).settle()
    assert simulation.condition("PodsReady") == ("True", "Running")


def test_preparations_that_another_controller_suspends_are_repeated_ever_later() -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.settle()
    waits = []
    for index in range(1, 5):
        name = f"sentiment-prepare-{index}"
        simulation.run(name, 1).settle()
        simulation.named(name)["spec"]["suspend"] = True
        simulation.settle()
        simulation.vanish(name).named(name)["status"] = {"active": 0}
        simulation.settle()
        waits.append(0)
        while f"sentiment-prepare-{index + 1}" not in simulation.jobs():
            waits[-1] += 1
            simulation.advance(1).settle()
    assert waits == sorted(waits)
    assert 1 < waits[0] < waits[-1]


def test_a_job_that_is_over_leaves_no_job_that_would_run_on() -> None:
    simulation = Simulation(TrainingJobBuilder().spec("failurePolicy", {"maxInfraRestarts": 0})).prepare()
    simulation.run("sentiment-train-1", 1).settle()
    simulation.advance(100).put(
        simulation.pod("sentiment-train-1").running(simulation.time).deleted(simulation.time)
    )
    simulation.advance(40).settle()
    assert simulation.condition("Stalled")[0] == "True"
    assert "sentiment-train-1" in simulation.jobs()
    simulation.advance(31).settle()
    assert "sentiment-train-1" not in simulation.jobs()
