"""What a phase and its conditions say is what is the case: a table of situations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from modelyard.training.attempts.silence import LONG_AFTER, QUIET_AFTER, UNREACHABLE_AFTER

from tests.builders import TrainingJobBuilder
from tests.unit.training.simulation import Simulation
from tests.unit.training.test_lifecycle import checkpoint, report, success, train, train_result

QUEUE = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Told:
    """phase; (status, reason) of conditions; words in Ready's message."""

    phase: str
    ready: str
    progressing: str
    pods: tuple[str, str]
    words: str = ""


def own(seconds: float, fact: dict[str, Any] | None = None) -> Simulation:
    simulation = Simulation(TrainingJobBuilder().command("python", "mine.py"))
    simulation.step()
    simulation.run("sentiment-train-1", 1)
    simulation.facts["train-1"] = fact or report(0, "starting")
    simulation.settle()
    simulation.advance(seconds).settle()
    return simulation


def loading(seconds: float) -> Simulation:
    simulation = train()
    simulation.facts["train-1"] = report(0, "starting")
    simulation.advance(seconds).settle()
    return simulation


def stepping(**fields: Any) -> Simulation:
    simulation = train()
    simulation.facts["train-1"] = report(30, secondsLeft=70.0, stepSeconds=1.0, **fields)
    simulation.settle()
    return simulation


def suspending() -> Simulation:
    simulation = stepping()
    simulation.job["spec"]["suspend"] = True
    simulation.job["metadata"]["generation"] = 2
    simulation.settle()
    return simulation


def suspended() -> Simulation:
    simulation = suspending()
    saved = train_result("preempted", 30, lastCheckpoint=checkpoint(30))
    simulation.put(*[simulation.pod("sentiment-train-1", i).ended(143, saved) for i in range(2)])
    simulation.named("sentiment-train-1")["status"] = {"active": 0}
    simulation.settle()
    return simulation


def overdue() -> Simulation:
    simulation = train(activeDeadlineSeconds=100)
    simulation.facts["train-1"] = report(30)
    simulation.settle()
    simulation.advance(101).settle()
    return simulation


def stopped_by_another() -> Simulation:
    simulation = stepping()
    simulation.named("sentiment-train-1")["spec"]["suspend"] = True
    simulation.settle()
    return simulation


def queued(stage: str) -> Simulation:
    simulation = Simulation(TrainingJobBuilder().label(QUEUE, "team-a"))
    if stage == "train":
        simulation.prepare()
    else:
        simulation.step()
    simulation.named(f"sentiment-{stage}-1")["spec"]["suspend"] = True
    simulation.settle()
    return simulation


def waiting() -> Simulation:
    simulation = stepping()
    simulation.finish_attempt("sentiment-train-1", 1, "Failed", [train_result("failed", 30)] * 2)
    simulation.settle()
    return simulation


def evaluating() -> Simulation:
    simulation = stepping()
    simulation.facts["train-1"] = report(100, "evaluating")
    simulation.settle()
    return simulation


def ended() -> Simulation:
    """All pods have ended well, and the Job's controller has not counted them yet."""
    simulation = stepping()
    simulation.facts.clear()
    simulation.put(*[simulation.pod("sentiment-train-1", i).ended(0, success()) for i in range(2)]).settle()
    return simulation


def collecting() -> Simulation:
    simulation = stepping()
    simulation.vanish("sentiment-train-1").end("sentiment-train-1", "Complete").settle()
    return simulation


def invalid_while_running() -> Simulation:
    simulation = stepping()
    simulation.job["spec"]["task"] = "poetry"
    simulation.settle()
    return simulation


def unscheduled() -> Simulation:
    simulation = Simulation(TrainingJobBuilder()).prepare()
    simulation.put(simulation.pod("sentiment-train-1").unscheduled("0/3 nodes are available.")).settle()
    return simulation


def succeeded() -> Simulation:
    simulation = stepping()
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    return simulation


def new() -> Simulation:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    return simulation


def preparing_stops() -> Simulation:
    simulation = new()
    simulation.run("sentiment-prepare-1", 1).settle()
    simulation.job["spec"]["suspend"] = True
    simulation.settle()
    return simulation


def born_suspended() -> Simulation:
    simulation = Simulation(TrainingJobBuilder().spec("suspend", True))
    simulation.step()
    return simulation


RUNS = ("True", "Running")
SITUATIONS: dict[str, tuple[Callable[[], Simulation], Told]] = {
    "new": (new, Told("Preparing", "Progressing", "True", ("False", "Preparing"))),
    "created suspended": (born_suspended, Told("Suspended", "Suspended", "False", ("False", "Suspended"))),
    "preparing, queued": (
        lambda: queued("prepare"), Told("Queued", "Queued", "False", ("False", "Queued"), "queue")
    ),
    "preparing is being stopped": (
        preparing_stops, Told("Suspending", "Progressing", "False", ("False", "Suspending"), "being stopped")
    ),
    "training, queued": (
        lambda: queued("train"), Told("Queued", "Queued", "False", ("False", "Queued"), "queue")
    ),
    "no node for the pods": (
        unscheduled, Told("Starting", "Unschedulable", "False", ("False", "Unschedulable"), "No node")
    ),
    "our trainer loads": (
        lambda: loading(10), Told("Starting", "Progressing", "False", RUNS, "load the model")
    ),
    "our trainer loads for long": (
        lambda: loading(LONG_AFTER + 5),
        Told("Starting", "Progressing", "False", RUNS, "kubectl logs sentiment-train-1-0-abcde"),
    ),
    "a program of one's own starts": (
        lambda: own(1), Told("Starting", "Progressing", "False", RUNS, "program is starting")
    ),
    "a program of one's own that says nothing": (
        lambda: own(QUIET_AFTER + 5), Told("Training", "Progressing", "True", RUNS, "reports no steps")
    ),
    "one that reports": (
        lambda: own(1, report(3)), Told("Training", "Progressing", "True", RUNS, "being trained")
    ),
    "training": (stepping, Told("Training", "Progressing", "True", RUNS)),
    "evaluating": (evaluating, Told("Evaluating", "Progressing", "True", RUNS)),
    "the pods have ended, their Job has not": (
        ended, Told("Evaluating", "Progressing", "True", ("False", "Evaluating"), "results are being read")
    ),
    "reading back a lost result": (
        collecting, Told("Evaluating", "Progressing", "True", ("False", "Evaluating"), "read back")
    ),
    "being suspended": (
        suspending, Told("Suspending", "Progressing", "False", ("False", "Suspending"), "save a checkpoint")
    ),
    "suspended": (suspended, Told("Suspended", "Suspended", "False", ("False", "Suspended"))),
    "past its deadline": (
        overdue,
        Told("Stopping", "Progressing", "False", ("False", "Stopping"), "activeDeadlineSeconds has passed"),
    ),
    "its Job is held by another": (
        stopped_by_another, Told("Stopping", "Progressing", "False", ("False", "Stopping"), "Someone else")
    ),
    "waiting for the next attempt": (
        waiting,
        Told("Recovering", "ProgressingWithRetry", "False", ("False", "ProgressingWithRetry"), "retryTime"),
    ),
    "an invalid spec while pods run": (
        invalid_while_running,
        Told("Failed", "InvalidSpec", "False", ("False", "InvalidSpec"), "What runs goes on"),
    ),
    "succeeded": (succeeded, Told("Succeeded", "Succeeded", "False", ("False", "Finished"))),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_status_says_what_is_the_case(name: str) -> None:
    make, told = SITUATIONS[name]
    simulation = make()
    assert simulation.status["phase"] == told.phase
    assert simulation.condition("Ready")[1] == told.ready
    assert simulation.condition("Progressing")[0] == told.progressing
    assert simulation.condition("PodsReady") == told.pods
    assert told.words in simulation.message()


def test_nobody_is_told_of_pods_that_are_stopping_as_running() -> None:
    simulation = suspending()
    simulation.put(simulation.pod("sentiment-train-1", 1).running(simulation.time).deleted(simulation.time))
    simulation.settle()
    assert simulation.status["nodes"] == {"desired": 2, "ready": 1}


@pytest.mark.parametrize("make", [suspended, waiting])
def test_a_job_that_stands_still_has_neither_speed_nor_an_end_in_sight(
    make: Callable[[], Simulation],
) -> None:
    assert "estimatedCompletionTime" in stepping().status["progress"]
    progress = make().status["progress"]
    assert set(progress) == {"step", "maxSteps", "percent", "metrics"}


def test_a_gate_that_was_never_reached_is_not_waited_for() -> None:
    simulation = train(gate={"metric": "eval_loss", "max": 0.2}, failurePolicy={"maxRestarts": 0})
    assert "when training has ended" in simulation.message("GatePassed")
    simulation.finish_attempt("sentiment-train-1", 1, "Failed", [train_result("failed", 3)] * 2)
    assert simulation.condition("GatePassed") == ("Unknown", "NotEvaluated")
    assert "ended before" in simulation.message("GatePassed")
    assert simulation.condition("CheckpointSafe") == ("False", "NoCheckpoint")
    assert "restart" not in simulation.message("CheckpointSafe")


def test_a_quiet_program_costs_one_status_write_and_then_none() -> None:
    simulation = own(QUIET_AFTER + 5)
    status = simulation.status
    assert simulation.plan.requeue_after is None
    simulation.advance(3600).step()
    assert simulation.status == status


def asked_anew(make: Callable[[], Simulation]) -> Simulation:
    """As an operator sees it that has just begun, and has no answer yet."""
    simulation = make()
    simulation.facts.clear()
    return simulation.advance(LONG_AFTER * 2)


@pytest.mark.parametrize("make", [stepping, evaluating, lambda: own(QUIET_AFTER + 5)])
def test_an_operator_that_begins_anew_takes_back_nothing_that_was_said(
    make: Callable[[], Simulation],
) -> None:
    simulation = asked_anew(make)
    before = simulation.status
    simulation.step()
    assert simulation.status == before and simulation.events == make().events


def test_what_was_said_of_an_attempt_is_not_said_of_the_next_one() -> None:
    simulation = waiting()
    simulation.facts.clear()
    simulation.advance(60).settle()
    assert simulation.status["phase"] == "Recovering"
    simulation.run("sentiment-train-2", 2).settle()
    assert simulation.status["phase"] == "Recovering"
    assert "load the model" in simulation.message("Progressing")


@pytest.mark.parametrize("make", [train, lambda: own(1)])
def test_an_agent_out_of_reach_is_told_and_takes_no_step_for_one_that_was_not_made(
    make: Callable[[], Simulation],
) -> None:
    simulation = make()
    simulation.facts.clear()
    simulation.advance(UNREACHABLE_AFTER - 5).settle()
    assert simulation.status["phase"] == "Starting"
    simulation.advance(10).settle()
    assert simulation.status["phase"] == "Training"
    assert simulation.condition("Ready") == ("False", "AgentUnreachable")
    assert simulation.condition("PodsReady") == RUNS
    assert "port 9400" in simulation.message() and simulation.events[-1] == "AgentUnreachable"
    simulation.advance(3600).settle()
    assert simulation.events.count("AgentUnreachable") == 1 and simulation.plan.requeue_after is None
    simulation.facts["train-1"] = report(7)
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "Progressing")
    assert "being trained" in simulation.message()
