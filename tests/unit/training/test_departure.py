"""Nodes that take pods away: by a taint, or because they don't answer any more."""

from __future__ import annotations

from datetime import timedelta

from modelyard.api.conditions import format_time

from tests.builders import PodBuilder, TrainingJobBuilder
from tests.unit.training.simulation import Simulation
from tests.unit.training.test_cases import driven_off
from tests.unit.training.test_lifecycle import checkpoint, report, train, train_result

PREPARE, FIRST, NEXT = "sentiment-prepare-1", "sentiment-train-1", "sentiment-train-2"
GRACE = 120.0


def leave(simulation: Simulation, job: str = FIRST, index: int = 1) -> PodBuilder:
    """A running pod that its node's taint drives off; its grace begins now."""
    end = format_time(simulation.now + timedelta(seconds=GRACE))
    return driven_off(simulation.pod(job, index).running(simulation.time)).deleted(end)


def is_stopping(simulation: Simulation, job: str = FIRST) -> bool:
    return simulation.named(job)["spec"].get("suspend") is True


def test_the_others_are_asked_to_stop_as_soon_as_a_pod_is_driven_off() -> None:
    simulation = train()
    simulation.put(leave(simulation)).settle()
    assert is_stopping(simulation)
    assert simulation.condition("PodsReady") == ("False", "NodeTainted")
    assert "its node counts as lost" in simulation.message()
    assert simulation.status["phase"] == "Recovering"


def test_pods_that_save_on_their_way_make_the_attempt_preempted() -> None:
    simulation = train()
    simulation.put(leave(simulation)).settle()
    stopped = [
        train_result("preempted", 40, node=n, lastCheckpoint=checkpoint(40), lostSteps=0) for n in (0, 1)
    ]
    simulation.put(
        simulation.pod(FIRST, 0).ended(143, stopped[0]),
        driven_off(simulation.pod(FIRST, 1).ended(143, stopped[1])).deleted(simulation.time),
    )
    simulation.named(FIRST)["status"] = {"active": 0}
    simulation.step()
    attempt = simulation.status["attempts"][0]
    assert (attempt["cause"], attempt["toStep"], attempt["lostSteps"]) == ("Preempted", 40, 0)
    assert attempt["failure"]["reason"] == "DeletionByTaintManager"
    simulation.advance(1).settle()
    assert simulation.jobs() == [PREPARE, NEXT]


def test_a_node_that_does_not_answer_is_given_up_only_when_the_other_pods_have_stopped() -> None:
    simulation = train()
    simulation.put(leave(simulation)).settle()
    simulation.named(FIRST)["status"] = {"active": 0, "terminating": 2}
    simulation.advance(GRACE + 29).settle()
    assert simulation.plan.requeue_after is not None
    assert simulation.plan.requeue_after <= 2
    simulation.advance(2).settle()
    assert "cause" not in simulation.status["attempts"][0], "the other pod still runs"
    assert simulation.condition("PodsReady") == ("False", "NodeLost")
    simulation.put(simulation.pod(FIRST, 0).ended(143, train_result("preempted"))).step()
    attempt = simulation.status["attempts"][0]
    assert (attempt["cause"], attempt["failure"]["reason"]) == ("Infrastructure", "NodeLost")
    assert attempt["failure"]["node"] == "node-1"
    simulation.advance(11).settle()
    assert simulation.jobs() == [PREPARE, NEXT], "although the lost pod is still there"


def test_where_rank_0_is_lost_the_steps_since_its_last_checkpoint_are_too() -> None:
    simulation = train()
    simulation.facts["train-1"] = report(38, lastCheckpoint=checkpoint(30))
    simulation.put(leave(simulation, index=0)).settle()
    late = {"reason": "StopTimedOut", "message": "did not save in time"}
    stopped = train_result("preempted", 40, node=1, failure=late)
    simulation.advance(GRACE).put(simulation.pod(FIRST, 1).ended(143, stopped)).settle()
    simulation.advance(31).step()
    attempt = simulation.status["attempts"][0]
    assert attempt["failure"]["reason"] == "NodeLost"
    assert (attempt["toStep"], attempt["lostSteps"]) == (40, 10)


def test_when_all_nodes_are_lost_nothing_is_waited_for() -> None:
    simulation = train()
    simulation.put(leave(simulation, index=0), leave(simulation, index=1)).settle()
    simulation.advance(GRACE + 31).step()
    assert simulation.status["attempts"][0]["failure"]["reason"] == "NodeLost"


def test_a_pod_deleted_by_hand_that_does_not_stop_has_lost_its_node_too() -> None:
    simulation = train()
    simulation.put(simulation.pod(FIRST, 1).running(simulation.time).deleted(simulation.time)).step()
    assert not is_stopping(simulation), "it may have saved, and the others with it"
    assert simulation.plan.requeue_after is not None
    assert simulation.plan.requeue_after <= 31
    simulation.advance(31).settle()
    assert is_stopping(simulation)


def test_a_job_of_a_queue_is_left_to_its_queue() -> None:
    builder = TrainingJobBuilder().nodes(2).label("kueue.x-k8s.io/queue-name", "team-a")
    simulation = Simulation(builder).prepare()
    simulation.run(FIRST, 2).settle()
    simulation.put(leave(simulation)).settle()
    assert not is_stopping(simulation)
    simulation.advance(GRACE + 31).step()
    assert simulation.status["attempts"][0]["failure"]["reason"] == "NodeLost"


def test_preparing_begins_again_elsewhere_when_its_node_is_lost() -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.settle()
    simulation.run(PREPARE, 1).settle()
    simulation.put(leave(simulation, PREPARE, 0)).settle()
    assert simulation.condition("PodsReady") == ("False", "NodeTainted")
    simulation.advance(GRACE + 29).settle()
    assert simulation.plan.requeue_after is not None
    assert simulation.plan.requeue_after <= 2
    simulation.advance(2).step()
    assert simulation.status["counters"]["infraFailures"] == 1
    assert simulation.events[-1] == "PrepareInterrupted"
    simulation.advance(11).settle()
    assert "sentiment-prepare-2" in simulation.jobs()
