"""Where the time of a job's attempts went, held against what each second of its life was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import TrainingJobBuilder
from tests.unit.training.simulation import Simulation
from tests.unit.training.test_lifecycle import report, success, train_result


def prepared(**spec: Any) -> Simulation:
    builder = TrainingJobBuilder().nodes(1)
    for path, value in spec.items():
        builder.spec(path, value)
    return Simulation(builder).prepare()


def place(simulation: Simulation, index: int = 1) -> str:
    """The attempt's pod has a node."""
    name = f"sentiment-train-{index}"
    simulation.named(name)["status"] = {"active": 1, "startTime": simulation.time}
    simulation.put(simulation.pod(name).placed(simulation.time)).settle()
    return simulation.time


def run(simulation: Simulation, placed: str, index: int = 1) -> str:
    """Its container runs."""
    simulation.put(
        simulation.pod(f"sentiment-train-{index}").placed(placed).running(simulation.time)
    ).settle()
    return simulation.time


def tell(simulation: Simulation, step: int, index: int = 1, **seconds: float) -> None:
    simulation.facts[f"train-{index}"] = report(step, attempt=index, seconds=seconds)
    simulation.settle()


def end(
    simulation: Simulation,
    placed: str,
    started: str,
    code: int,
    result: dict[str, Any] | None,
    index: int = 1,
) -> None:
    """Its pod has ended; a pass has seen it."""
    name = f"sentiment-train-{index}"
    told = {**result, "attempt": index} if result else None
    pod = simulation.pod(name).placed(placed).ended(code, told, started, simulation.time)
    simulation.put(pod).end(name, "Complete" if code == 0 else "Failed").step()
    simulation.facts.pop(f"train-{index}", None)


def seconds_of(simulation: Simulation) -> dict[str, float]:
    found: dict[str, float] = simulation.status["goodput"]["seconds"]
    return found


def test_a_life_without_trouble() -> None:
    simulation = prepared()
    simulation.advance(30)
    placed = place(simulation)
    simulation.advance(10)
    started = run(simulation, placed)
    simulation.advance(100)
    tell(simulation, 20, starting=20.0, training=70.0, saving=4.0, evaluating=6.0)
    assert simulation.status["goodput"] == {
        "ratio": 0.6364,  # 70 of 110
        "seconds": {"queued": 30.0, "starting": 30.0, "productive": 70.0, "saving": 4.0, "evaluating": 6.0},
        "endedSeconds": {},
    }
    simulation.advance(64)
    told = {"starting": 20.0, "training": 110.0, "saving": 4.0, "evaluating": 16.0, "exporting": 12.0}
    end(simulation, placed, started, 0, success(seconds=told))
    simulation.settle()
    assert simulation.status["phase"] == "Succeeded"
    expected = {
        "queued": 30.0, "starting": 30.0, "productive": 110.0, "saving": 4.0, "evaluating": 16.0,
        "exporting": 14.0,  # with what the pod took to end
    }  # fmt: skip
    assert seconds_of(simulation) == simulation.status["goodput"]["endedSeconds"] == expected
    assert simulation.status["goodput"]["ratio"] == round(110 / 174, 4)
    assert sum(expected.values()) == 30 + 10 + 164


def test_an_interruption_costs_until_its_lost_steps_are_done_again() -> None:
    simulation = prepared()
    placed = place(simulation)
    started = run(simulation, placed)
    simulation.advance(100)
    failed = train_result(
        "failed", 50, lostSteps=10, seconds={"starting": 20.0, "training": 75.0},
        failure={"reason": "UserCodeError", "message": "it broke"},
    )  # fmt: skip
    end(simulation, placed, started, 1, failed)
    assert seconds_of(simulation) == {"starting": 20.0, "productive": 75.0, "recovering": 5.0}
    simulation.advance(40)  # the wait before the next one
    simulation.settle()
    environment = simulation.named("sentiment-train-2")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "MODELYARD_REACHED_STEP", "value": "50"} in environment
    simulation.advance(7)
    placed = place(simulation, 2)
    started = run(simulation, placed, 2)
    simulation.advance(60)
    tell(simulation, 70, 2, starting=25.0, repeating=15.0, restarting=1.0, training=18.0)
    assert seconds_of(simulation) == {
        "starting": 20.0, "productive": 75.0 + 18.0, "queued": 7.0, "recovering": 5.0 + 40.0 + 25.0 + 15.0 + 1.0
    }  # fmt: skip


def test_of_a_pod_that_was_killed_counts_what_was_last_heard() -> None:
    simulation = prepared()
    placed = place(simulation)
    started = run(simulation, placed)
    simulation.advance(100)
    tell(simulation, 20, starting=20.0, training=80.0)
    simulation.facts.clear()  # and the operator was started again since
    simulation.advance(30)
    end(simulation, placed, started, 137, None)
    assert seconds_of(simulation) == {"starting": 20.0, "productive": 80.0, "recovering": 30.0}


def test_while_nobody_answers_what_was_told_stays() -> None:
    simulation = prepared()
    placed = place(simulation)
    started = run(simulation, placed)
    simulation.advance(100)
    tell(simulation, 20, starting=20.0, training=80.0)
    simulation.facts.clear()
    simulation.advance(30)
    # Its pod has ended and its Job has not yet: the status changes meanwhile, and nobody is there to ask.
    result = success(seconds={"starting": 20.0, "training": 90.0, "exporting": 18.0})
    simulation.put(
        simulation.pod("sentiment-train-1").placed(placed).ended(0, result, started, simulation.time)
    )
    simulation.settle()
    assert simulation.status["nodes"]["ready"] == 0
    assert seconds_of(simulation) == {"starting": 20.0, "productive": 80.0}
    simulation.advance(1).end("sentiment-train-1", "Complete").settle()
    assert seconds_of(simulation) == {"starting": 20.0, "productive": 90.0, "exporting": 20.0}


def test_pods_and_job_that_others_deleted_leave_what_was_said() -> None:
    simulation = prepared()
    placed = place(simulation)
    run(simulation, placed)
    simulation.advance(100)
    tell(simulation, 20, starting=20.0, training=80.0)
    simulation.advance(30)
    simulation.remove("Job/sentiment-train-1")
    simulation.facts.clear()
    simulation.step()
    assert seconds_of(simulation) == {"starting": 20.0, "productive": 80.0, "recovering": 30.0}


def test_who_is_suspended_loses_nothing_by_it() -> None:
    simulation = prepared()
    placed = place(simulation)
    started = run(simulation, placed)
    simulation.advance(100)
    tell(simulation, 20, starting=20.0, training=80.0)
    simulation.job["spec"]["suspend"] = True
    simulation.settle()
    name = "sentiment-train-1"
    result = train_result("preempted", 20, lostSteps=0, seconds={"starting": 20.0, "training": 80.0})
    simulation.named(name)["status"] = {"active": 0, "conditions": [{"type": "Suspended", "status": "True"}]}
    simulation.put(simulation.pod(name).placed(placed).ended(143, result, started, simulation.time)).settle()
    assert simulation.status["phase"] == "Suspended"
    simulation.advance(5000).settle()
    simulation.job["spec"]["suspend"] = False
    simulation.settle()
    placed = place(simulation, 2)
    run(simulation, placed, 2)
    simulation.advance(50)
    tell(simulation, 30, 2, starting=15.0, training=35.0)
    assert seconds_of(simulation) == {"starting": 35.0, "productive": 115.0}


def test_a_trainer_that_never_came_up_was_starting() -> None:
    simulation = prepared()
    placed = place(simulation)
    started = run(simulation, placed)
    simulation.advance(20)
    end(simulation, placed, started, 1, train_result("failed", 0))
    assert seconds_of(simulation) == {"starting": 20.0}
    assert simulation.status["goodput"]["ratio"] == 0.0


def test_of_a_program_that_tells_nothing_only_its_wait_is_known() -> None:
    simulation = prepared(**{"trainer.command": ["python", "train.py"], "trainer.image": "mine:1"})
    simulation.advance(12)
    placed = place(simulation)
    started = run(simulation, placed)
    simulation.advance(200)
    tell(simulation, 3)
    simulation.advance(100)
    end(simulation, placed, started, 0, train_result("succeeded", 0, maxSteps=None))
    assert simulation.status["goodput"] == {"seconds": {"queued": 12.0}, "endedSeconds": {"queued": 12.0}}


@pytest.mark.parametrize(
    "told",
    [
        {"training": 1e300},
        {"starting": -5.0},
        {"nonsense": 1e9},
        {"a" * 999: 3.0},
        {"training": float("inf")},
    ],
)
def test_whatever_a_pod_says_no_state_takes_longer_than_its_attempt(told: dict[str, float]) -> None:
    simulation = prepared()
    placed = place(simulation)
    simulation.advance(10)
    run(simulation, placed)
    simulation.advance(90)
    tell(simulation, 20, 1, **told)
    assert all(spent <= 110 for spent in seconds_of(simulation).values())
    assert seconds_of(simulation).keys() <= {"queued", "starting", "productive"}
    assert seconds_of(simulation)["starting"] >= 10


def test_a_job_that_says_nothing_new_is_not_written_again_for_its_goodput() -> None:
    simulation = prepared()
    placed = place(simulation)
    run(simulation, placed)
    simulation.advance(100)
    tell(simulation, 20, starting=20.0, training=80.0)
    before = simulation.status
    simulation.advance(50)
    simulation.facts["train-1"]["seconds"] = {"starting": 20.0, "training": 130.0}
    simulation.settle()
    assert simulation.status == before
