"""Where a pod's time goes, held against what was really done each second."""

from __future__ import annotations

import json
import random

import pytest
from modelyard.contract.report import ProgressReport
from modelyard_agent import kubeflow
from modelyard_agent.progress import Progress
from modelyard_agent.timesheet import Timesheet


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def told(progress: Progress) -> dict[str, float]:
    return ProgressReport.model_validate_json(json.dumps(progress.snapshot())).seconds


def test_each_second_is_in_one_state() -> None:
    clock = Clock()
    sheet = Timesheet(clock=clock)
    for state, step, seconds in (
        ("training", None, 7), ("training", 1, 2), ("saving", None, 0.5), ("training", None, 1), ("training", 2, 3),
        ("evaluating", None, 0.25), ("exporting", None, 4), ("done", None, 5),
    ):  # fmt: skip
        clock.now += seconds
        sheet.note(state, step)
    clock.now += 1000.0
    assert sheet.read() == {
        "starting": 7, "training": 2 + 0.5 + 3 + 0.25, "saving": 1, "evaluating": 4, "exporting": 5
    }  # fmt: skip


def test_steps_that_were_done_before_are_repeated_work() -> None:
    clock = Clock()
    sheet = Timesheet(reached=12, clock=clock)
    clock.now += 5.0
    sheet.note("training")
    for step in range(11, 16):
        clock.now += 1.0
        sheet.note("training", step)
    assert sheet.read() == {"starting": 5.0, "repeating": 2.0, "training": 3.0}


def test_while_a_step_is_under_way_it_is_known_whether_it_is_a_new_one() -> None:
    clock = Clock()
    sheet = Timesheet(reached=1, clock=clock)
    sheet.note("training")
    clock.now += 30.0
    assert sheet.read() == {"repeating": 30.0}
    sheet.note("training", 1)
    clock.now += 20.0
    assert sheet.read() == {"repeating": 30.0, "training": 20.0}


def test_processes_started_again_take_until_what_was_lost_is_done_again() -> None:
    clock = Clock()
    progress = Progress(1, clock)
    progress.merge({"state": "training", "pid": 1})
    for step in range(1, 11):
        clock.now += 1.0
        progress.merge({"state": "training", "step": step, "pid": 1})
    clock.now += 0.5
    progress.set_restarts(1)
    progress.set_restarts(1)
    clock.now += 6.0
    progress.merge({"state": "starting", "step": 8, "pid": 2})
    clock.now += 2.0
    progress.merge({"state": "training", "pid": 2})
    for step in range(9, 13):
        clock.now += 1.0
        progress.merge({"state": "training", "step": step, "pid": 2})
    assert told(progress) == {"training": 12.0, "restarting": 8.5, "repeating": 2.0}


def test_of_a_program_that_tells_nothing_no_time_is_booked() -> None:
    clock = Clock()
    progress = Progress(1, clock)
    clock.now += 60.0
    assert told(progress) == {}
    assert "state_seconds" not in progress.render()


def test_a_program_that_tells_of_steps_only_trains() -> None:
    clock = Clock()
    progress = Progress(1, clock)
    clock.now += 10.0
    progress.merge({"step": 1, "maxSteps": 3})
    clock.now += 4.0
    progress.merge({"step": 2})
    assert told(progress) == {"starting": 10.0, "training": 4.0}
    assert progress.snapshot()["state"] == "training"


def test_unmodified_images_have_their_time_booked() -> None:
    clock = Clock()
    progress = Progress(1, clock)
    clock.now += 10.0
    metrics = [{"name": "current_step", "value": "5"}, {"name": "total_steps", "value": "20"}]
    for _ in range(3):
        progress.merge(kubeflow.translate({"trainerStatus": {"metrics": metrics}}))
        clock.now += 5.0
    progress.finish(well=True)
    clock.now += 5.0
    assert told(progress) == {"starting": 10.0, "training": 15.0}
    assert 'modelyard_training_state_seconds_total{state="training"} 15.0' in progress.render()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_told_all_states_together_are_the_time_that_has_passed(seed: int) -> None:
    chance, clock = random.Random(seed), Clock()  # noqa: S311
    progress = Progress(1, clock, reached=chance.randrange(20))
    progress.merge({"step": 0})
    restarts, begun, step = 0, clock.now, 0
    for _ in range(200):
        clock.now += chance.random()
        if chance.random() < 0.05:
            restarts += 1
            progress.set_restarts(restarts)
            step = max(0, step - chance.randrange(10))
            continue
        step += chance.randrange(2)
        state = chance.choice(["starting", "training", "evaluating", "saving", "exporting", "nonsense", None])
        progress.merge({"state": state, "step": step} if chance.random() < 0.5 else {"state": state})
    assert sum(told(progress).values()) == pytest.approx(clock.now - begun, abs=0.01)
