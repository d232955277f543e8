"""What totals by project and team grow by, held against whole lives of jobs."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from modelyard.training.status import totals

from tests.builders import TrainingJobBuilder
from tests.unit.training.simulation import Simulation
from tests.unit.training.test_costs import settings
from tests.unit.training.test_lifecycle import report, success, train_result


class Counting(Simulation):
    """Adds up what each status says more than the one before."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sums: Counter[tuple[str, ...]] = Counter()

    def step(self) -> Any:
        before = self.job.get("status") or {}
        plan = super().step()
        for sample in totals.count(before, self.job["status"]):
            self.sums[(sample.family.removeprefix("modelyard_"), *sample.labels)] += sample.value  # type: ignore[assignment]
        return plan


def broken(index: int, **fields: Any) -> dict[str, Any]:
    failure = {"reason": "UserCodeError", "message": "it broke"}
    return train_result(
        "failed", 40 + 10 * index, failure=failure, seconds={"starting": 20.0, "training": 30.0}, **fields
    )


def test_over_a_life_the_totals_are_what_the_last_status_says() -> None:
    simulation = Counting(TrainingJobBuilder().nodes(1), settings())
    simulation.prepare()
    for index in (1, 2):
        simulation.advance(13)
        simulation.run(f"sentiment-train-{index}", 1).settle()
        simulation.advance(50)
        simulation.facts[f"train-{index}"] = report(
            50, attempt=index, seconds={"starting": 20.0, "training": 30.0}
        )
        simulation.settle()
        result = broken(index, lostSteps=10 * index, processRestarts=1) | {"attempt": index}
        simulation.finish_attempt(f"sentiment-train-{index}", 1, "Failed", [result])
        simulation.advance(400).settle()
    simulation.run("sentiment-train-3", 1).settle()
    done = success(seconds={"starting": 20.0, "training": 40.0}) | {"attempt": 3}
    simulation.finish_attempt("sentiment-train-3", 0, "Complete", [done])
    simulation.settle()
    status, sums = simulation.status, simulation.sums
    assert status["phase"] == "Succeeded"
    assert sums["jobs_ended_total", "Succeeded"] == 1
    for state, seconds in status["goodput"]["seconds"].items():
        assert sums["job_state_seconds_total", state] == pytest.approx(seconds)
    for resource, hours in status["cost"]["hours"].items():
        assert sums["job_resource_hours_total", resource] == pytest.approx(hours)
    assert sums["job_cost_total", "EUR"] == pytest.approx(status["cost"]["amount"])
    assert sums["job_interruptions_total", "user"] == 2
    assert sums["job_interruptions_total", "process"] == 2
    assert sums["job_lost_steps_total",] == 30


def test_attempts_that_a_status_has_no_room_for_any_more_take_nothing_away() -> None:
    def status(*lost: tuple[int, int | None]) -> dict[str, Any]:
        return {"attempts": [{"index": i, "lostSteps": steps} for i, steps in lost]}

    def more(before: dict[str, Any], after: dict[str, Any]) -> float:
        return next(s.value for s in totals.count(before, after) if s.family.endswith("lost_steps_total"))

    assert more(status((1, 5), (2, None)), status((2, 7), (3, None))) == 7
    assert more(status((2, 7)), status((2, 7))) == 0


@pytest.mark.parametrize(
    ("course", "sums"),
    [
        (["100 EUR", "110 USD", "120 USD"], {"EUR": 0, "USD": 120}),
        (["100 EUR", "", "100 EUR", "101 EUR"], {"EUR": 101}),
        (["100 EUR", "90 EUR"], {"EUR": 90}),
        (["", ""], {}),
    ],
)
def test_costs_are_counted_once_whatever_becomes_of_the_prices(
    course: list[str], sums: dict[str, float]
) -> None:
    found: Counter[str] = Counter()
    statuses: list[dict[str, Any]] = [{}]
    for text in course:
        amount, _, currency = text.partition(" ")
        cost = {"amount": float(amount), "currency": currency} if text else {}
        statuses.append({"cost": {"hours": {"cpu": 1.0}, **cost}})
    for before, after in pairwise(statuses):
        for sample in totals.count(before, after):
            if sample.family.endswith("cost_total"):
                found[sample.labels[0]] += sample.value  # type: ignore[assignment]
    assert found == sums


def test_a_status_that_others_wrote_breaks_nothing() -> None:
    strange = {"goodput": 3, "cost": {"hours": ["x"], "amount": "much"}, "counters": None, "attempts": []}
    assert all(s.value == 0 for s in totals.count(strange, strange))
