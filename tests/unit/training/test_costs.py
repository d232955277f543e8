"""What a job's pods have set aside and what that costs, held against sums made by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from modelyard.api.profile import Prices, Settings
from modelyard.workloads import cost
from pydantic import ValidationError

from tests.builders import PodBuilder, TrainingJobBuilder, make_settings
from tests.unit.training.simulation import Simulation
from tests.unit.training.test_lifecycle import report, success, train_result

PRICES = {"currency": "EUR", "perHour": {"cpu": 0.06, "memory": 0.01, "nvidia.com/gpu": 2.5}}
# A pod of preparation asks for half a core and 1 GiB; one of training for 4 cores, 16 GiB and a GPU.
PREPARING = {"cpu": Fraction(1, 2), "memory": Fraction(1)}
TRAINING = {"cpu": Fraction(4), "memory": Fraction(16), "nvidia.com/gpu": Fraction(1)}
NODES = 2


def settings(prices: Any = PRICES, **limits: Any) -> Settings:
    made = make_settings().dump()
    made["profiles"]["default"]["resources"] = {
        "limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": 1} | limits
    }
    if prices:
        made["profiles"]["default"]["prices"] = prices
    return Settings.model_validate(made)


def used(*parts: tuple[dict[str, Fraction], int, int]) -> dict[str, Any]:
    """Hours of (amounts, pods, seconds), added up exactly."""
    names = sorted({name for amounts, _, _ in parts for name in amounts})
    total = {n: sum(a.get(n, Fraction(0)) * pods * s / 3600 for a, pods, s in parts) for n in names}
    return {name: pytest.approx(float(value), abs=1e-8) for name, value in total.items() if value}


def amount(hours: dict[str, float]) -> Any:
    return pytest.approx(sum(hours[n] * PRICES["perHour"][n] for n in hours), abs=1e-4)  # type: ignore[index]


def run_pods(simulation: Simulation, job: str, count: int) -> None:
    simulation.run(job, count).settle()


def end_pods(
    simulation: Simulation,
    job: str,
    start: str,
    condition: str,
    code: int,
    *results: dict[str, Any],
    **how: Any,
) -> None:
    """All pods of a Job, which began at `start`, end now."""
    pods = [
        simulation.pod(job, node).ended(code, result, start, simulation.time, **how)
        for node, result in enumerate(results)
    ]
    simulation.put(*pods).end(job, condition).settle()


def prepared(seconds: int = 90, **options: Any) -> Simulation:
    """Its data took so many seconds."""
    simulation = Simulation(TrainingJobBuilder().nodes(NODES), settings(**options))
    simulation.settle()
    start = simulation.time
    run_pods(simulation, "sentiment-prepare-1", 1)
    simulation.advance(seconds)
    result = {"stage": "prepare", "outcome": "succeeded", "digest": "sha256-d", "modelDigest": "sha256-m"}
    end_pods(simulation, "sentiment-prepare-1", start, "Complete", 0, result)
    return simulation


def test_a_job_costs_what_its_pods_set_aside_from_preparation_to_the_end() -> None:
    simulation = prepared(90)
    assert simulation.status["cost"]["hours"] == used((PREPARING, 1, 90))
    simulation.advance(30)  # nobody pays for pods that wait
    start = simulation.time
    run_pods(simulation, "sentiment-train-1", NODES)
    simulation.advance(600)
    simulation.facts["train-1"] = report(50, secondsLeft=1200.0, updated=simulation.now.timestamp())
    simulation.settle()
    found = simulation.status["cost"]
    assert found["hours"] == used((PREPARING, 1, 90), (TRAINING, NODES, 600))
    assert found["endedHours"] == used((PREPARING, 1, 90))
    assert (found["amount"], found["currency"]) == (amount(found["hours"]), "EUR")
    at_its_end = used((PREPARING, 1, 90), (TRAINING, NODES, 1800))
    assert found["forecast"] == amount({name: value.expected for name, value in at_its_end.items()})
    simulation.advance(1100)
    results = [success(), train_result("succeeded", node=1)]
    end_pods(simulation, "sentiment-train-1", start, "Complete", 0, *results)
    found = simulation.status["cost"]
    assert found["hours"] == found["endedHours"] == used((PREPARING, 1, 90), (TRAINING, NODES, 1700))
    assert found["amount"] == amount(found["hours"])
    assert "forecast" not in found
    before = simulation.status
    simulation.advance(7200).settle()
    assert simulation.status == before, "what is over costs nothing more"


def test_all_attempts_count_with_what_each_of_them_asked_for() -> None:
    simulation = prepared(60)
    start = simulation.time
    run_pods(simulation, "sentiment-train-1", NODES)
    simulation.advance(300)
    simulation.settings = settings(cpu="8")  # whoever changes the profile changes the next attempt
    failed = train_result("failed", failure={"reason": "UserCodeError", "message": "it broke"})
    end_pods(simulation, "sentiment-train-1", start, "Failed", 1, failed, failed | {"node": 1})
    assert simulation.status["attempts"][-1]["cause"]
    simulation.advance(3600).settle()
    run_pods(simulation, "sentiment-train-2", NODES)
    simulation.advance(100)
    simulation.facts["train-2"] = report(10)
    simulation.settle()
    larger = TRAINING | {"cpu": Fraction(8)}
    expected = used((PREPARING, 1, 60), (TRAINING, NODES, 300), (larger, NODES, 100))
    assert simulation.status["cost"]["hours"] == expected


def test_of_a_job_that_others_deleted_counts_what_was_last_said_of_it() -> None:
    simulation = prepared(60)
    run_pods(simulation, "sentiment-train-1", NODES)
    simulation.advance(300)
    simulation.facts["train-1"] = report(10)
    simulation.settle()
    said = simulation.status["cost"]["hours"]
    simulation.advance(5)
    simulation.remove("Job/sentiment-train-1")
    simulation.settle()
    assert simulation.status["cost"]["hours"] == simulation.status["cost"]["endedHours"] == said


def test_hours_are_counted_without_prices_and_amounts_follow_new_ones() -> None:
    simulation = prepared(3600, prices=None)
    assert simulation.status["cost"] == {
        "hours": used((PREPARING, 1, 3600)), "endedHours": used((PREPARING, 1, 3600))
    }  # fmt: skip
    simulation.settings = settings({"currency": "USD", "perHour": {"cpu": 1.0}})
    simulation.settle()
    assert (simulation.status["cost"]["amount"], simulation.status["cost"]["currency"]) == (0.5, "USD")


def test_a_job_that_says_nothing_is_not_looked_at_or_written_again_for_its_cost() -> None:
    simulation = prepared(60)
    run_pods(simulation, "sentiment-train-1", NODES)
    simulation.advance(700).settle()
    before = simulation.status
    for _ in range(9):
        simulation.advance(600).settle()
        assert simulation.status == before
        assert simulation.plan.requeue_after is None
    simulation.facts["train-1"] = report(10)
    simulation.settle()
    assert simulation.status["cost"]["hours"] == used((PREPARING, 1, 60), (TRAINING, NODES, 6100))


def test_a_pod_sets_aside_what_its_containers_request() -> None:
    containers = [
        {"resources": {"requests": {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": 2}}},
        {"resources": {"requests": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "2Gi"}}},
        {},
    ]
    assert cost.list_amounts({"containers": containers}) == {
        "cpu": 1.5, "memory": 1.5, "nvidia.com/gpu": 2.0, "ephemeral-storage": 2.0
    }  # fmt: skip
    assert cost.list_amounts({}) == {}


def test_what_runs_beside_the_trainer_counts_as_the_scheduler_counts_it() -> None:
    proxy = {"resources": {"requests": {"cpu": "100m"}}, "restartPolicy": "Always"}
    setup = {"resources": {"requests": {"cpu": "64"}}}
    shipper = {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}
    pod = {"containers": [shipper], "initContainers": [setup, proxy]}
    assert cost.list_amounts(pod) == pytest.approx({"cpu": 0.6, "memory": 1.0})
    whole = pod | {"resources": {"limits": {"cpu": "3"}, "requests": {"memory": "4Gi"}}}
    assert cost.list_amounts(whole) == pytest.approx({"cpu": 3.0, "memory": 4.0})


def test_what_has_no_price_costs_nothing() -> None:
    prices = Prices.model_validate({"currency": "EUR", "perHour": {"cpu": 0.1}})
    assert cost.price({"cpu": 30.0, "memory": 1000.0}, prices) == 3.0


@pytest.mark.parametrize(
    "prices",
    [
        {"currency": "euro", "perHour": {"cpu": 1}},
        {"currency": "EUR", "perHour": {}},
        {"currency": "EUR", "perHour": {"cpu": -1}},
        {"currency": "EUR", "perHour": {"cpu": float("nan")}},
        {"currency": "EUR", "perHour": {"gpu": 2.5}},
        {"currency": "EUR", "perHour": {"Memory": 0.1}},
        {"perHour": {"cpu": 1}},
    ],
)
def test_prices_that_are_none_are_refused(prices: Any) -> None:
    with pytest.raises(ValidationError):
        settings(prices)


def test_pods_are_built_with_the_requests_that_are_counted() -> None:
    simulation = prepared(10)
    pod = PodBuilder(simulation.named("sentiment-train-1"), 0).build()
    assert pod is not None
    template = simulation.named("sentiment-train-1")["spec"]["template"]["spec"]
    assert cost.list_amounts(template) == {name: float(value) for name, value in TRAINING.items()}
