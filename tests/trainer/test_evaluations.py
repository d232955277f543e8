"""When there is an evaluation, on whatever metric, and what becomes of a run whose evaluation fails."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from modelyard.api.tasks import TASKS

from tests.trainer.attempts import Attempt, prepare_attempts, run_attempts

GATE_METRICS = {name: facts.gate_metrics for name, facts in TASKS.items()}
STEPS = 4
CASES = [
    (task, metric, stops_early, eval_steps)
    for task, metrics in GATE_METRICS.items()
    for metric, stops_early, eval_steps in product(metrics, (False, True), (None, 2))
]
STILL = {"training__learning_rate": 1e-12, "training__max_steps": STEPS, "checkpoint__every_steps": 1}


def gate(metric: str, **changes: Any) -> dict[str, Any]:
    bound = {"max": 1e9} if metric in ("eval_loss", "eval_perplexity") else {"min": 0.0}
    return {"metric": metric, **bound, **changes}


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Attempt]:
    root = tmp_path_factory.mktemp("gated")
    attempts = {}
    for index, (task, metric, stops_early, eval_steps) in enumerate(CASES):
        early = {"patience": 1, "min_delta": 0.1} if stops_early else {}
        ctx = prepare_attempts(
            root / str(index), task=task, gate=gate(metric, **early), training__eval_steps=eval_steps, **STILL
        )
        attempts[task, metric, stops_early, eval_steps] = Attempt(ctx)
    run_attempts(root, 1, list(attempts.values()))
    return attempts


@pytest.mark.parametrize(("task", "metric", "stops_early", "eval_steps"), CASES)
def test_a_gate_takes_every_metric_that_is_documented(
    gated: dict[Any, Attempt], task: str, metric: str, stops_early: bool, eval_steps: int | None
) -> None:
    attempt = gated[task, metric, stops_early, eval_steps]
    result = attempt.result
    # Nothing is learned: the second evaluation is no better than the first.
    evaluated = {
        (False, None): [4], (False, 2): [2, 4], (True, None): [1, 2], (True, 2): [2, 4]
    }[stops_early, eval_steps]  # fmt: skip
    log = attempt.read()["log"]
    assert [entry["step"] for entry in log if "eval_loss" in entry] == evaluated
    assert (result.outcome, result.step) == ("succeeded", evaluated[-1])
    assert set(result.metrics) == set(GATE_METRICS[task])
    assert result.gate is not None and result.gate.passed
    assert (result.gate.metric, result.gate.value) == (metric, result.metrics[metric])
    last = result.last_checkpoint
    assert last is not None and (last.step, last.metric, last.value) == (
        result.step,
        metric,
        result.metrics[metric],
    )


PATIENT = {
    "gate": gate("eval_loss", patience=3, min_delta=0.1),
    "training__eval_steps": 1,
    **STILL,
    "training__max_steps": 9,
    "checkpoint__keep_last": 9,
}
PLATEAU = {
    "gate": gate("eval_loss"),
    "training__eval_steps": 1,
    "training__lr_scheduler_type": "reduce_lr_on_plateau",
    # Nothing is an improvement, and so each evaluation but the first halves the rate.
    "training__args": {
        "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5, "threshold": 9.0, "threshold_mode": "abs"}
    },
    **STILL,
    "training__learning_rate": 1e-3,  # the scheduler changes none by less than 1e-8
    "training__max_steps": 6,
    "checkpoint__keep_last": 9,
}


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Attempt]]:
    root = tmp_path_factory.mktemp("deaths")
    runs: dict[str, list[Attempt]] = {}
    for name, changes in (("patient", PATIENT), ("plateau", PLATEAU)):
        runs[name] = [Attempt(prepare_attempts(root / name, **changes))]
        for cut, how in (("died", {"dies": 3}), ("stopped", {"stops": True})):
            ctx = prepare_attempts(root / f"{name}-{cut}", **changes)
            runs[f"{name}-{cut}"] = [Attempt(ctx, **how), Attempt(ctx, number=1)]
    ctx = prepare_attempts(root / "last", **STILL)
    runs["last"] = [Attempt(ctx, dies=STEPS), Attempt(ctx, number=1)]
    run_attempts(root, 2, [attempt for attempts in runs.values() for attempt in attempts])
    return runs


def test_a_failing_last_evaluation_costs_nothing_of_the_training(deaths: dict[str, list[Attempt]]) -> None:
    result = deaths["last"][1].result
    assert (result.outcome, result.resumed_from, result.step) == ("succeeded", STEPS, STEPS)
    assert "eval_loss" in result.metrics
    manifest = deaths["last"][0].ctx.run_dir / "a0" / f"checkpoint-{STEPS}" / "manifest.json"
    assert "value" not in json.loads(manifest.read_text())


@pytest.mark.parametrize(("cut", "resumed_from"), [("died", 3), ("stopped", 1)])
def test_a_resumed_run_makes_up_for_the_evaluation_it_owes_and_stops_when_it_would_have(
    deaths: dict[str, list[Attempt]], cut: str, resumed_from: int
) -> None:
    undisturbed, resumed = deaths["patient"][0], deaths[f"patient-{cut}"][1]
    assert resumed.result.resumed_from == resumed_from
    assert resumed.result.step == undisturbed.result.step == 4
    assert evaluations(resumed) == evaluations(undisturbed) and len(evaluations(resumed)) == 4


@pytest.mark.parametrize("cut", ["died", "stopped"])
def test_a_rate_that_follows_evaluations_follows_an_owed_one_too(
    deaths: dict[str, list[Attempt]], cut: str
) -> None:
    undisturbed, resumed = rates(deaths["plateau"][0]), rates(deaths[f"plateau-{cut}"][1])
    assert undisturbed[6] < undisturbed[1] / 8
    assert resumed == undisturbed


def evaluations(attempt: Attempt) -> dict[int, float]:
    return {entry["step"]: entry["eval_loss"] for entry in attempt.read()["log"] if "eval_loss" in entry}


def rates(attempt: Attempt) -> dict[int, float]:
    log = attempt.read()["log"]
    return {entry["step"]: entry["learning_rate"] for entry in log if "learning_rate" in entry}
