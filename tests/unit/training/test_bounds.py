"""Whatever a pod says of itself becomes a status that the API server takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelyard.api.bounded import KEY_LIMIT, LARGEST, clean
from modelyard.contract import reading
from modelyard.contract.report import PrepareResult, ProgressReport, TrainResult
from modelyard.training.status.size import LIMIT

from tests.builders import TrainingJobBuilder
from tests.crds.admission import refusals
from tests.unit.training.simulation import Simulation
from tests.unit.training.test_lifecycle import train, train_result

slow = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
texts = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(), max_size=8).map(lambda t: t * 700),
    st.sampled_from(["\ud800", "\x1b[31mred\x1b[0m", "\x00", "a" * 5000, "line\r\nend\r", "‮", "loss"]),
)
numbers = st.one_of(
    st.integers(),
    st.sampled_from([10**30, -(10**30), 2**63, 2**53, -1, 10**400]),
    st.floats(),
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
metrics = st.one_of(
    st.dictionaries(texts, numbers, max_size=60),
    st.integers(0, 3000).map(lambda n: {f"m{i}": float(i) for i in range(n)}),
)
checkpoints = st.fixed_dictionaries(
    {"step": numbers, "path": texts, "time": numbers},
    optional={
        "worldSize": numbers, "saveSeconds": numbers, "metric": texts, "value": st.one_of(st.none(), numbers)
    },
)  # fmt: skip
failures = st.fixed_dictionaries(
    {"reason": texts}, optional={"message": texts, "rank": numbers, "exitCode": numbers, "excerpt": texts}
)


def message(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A message of the right shape with any values, and now and then anything at all in one field."""
    right = st.fixed_dictionaries(required, optional=optional)
    spoilt = st.tuples(right, st.sampled_from([*required, *optional]), anything)
    return st.one_of(right, right, spoilt.map(lambda t: {**t[0], t[1]: t[2]}))


reports = message(
    {"state": st.sampled_from(["starting", "training", "evaluating"]), "step": numbers},
    maxSteps=numbers, epoch=numbers, stepSeconds=numbers, samplesPerSecond=numbers, tokensPerSecond=numbers,
    secondsLeft=numbers, metrics=metrics, resumedFrom=numbers, lastCheckpoint=checkpoints,
    bestCheckpoint=checkpoints, updated=numbers,
)  # fmt: skip
results = message(
    {"outcome": st.sampled_from(["succeeded", "gateFailed", "preempted", "failed"]), "attempt": st.just(1)},
    step=numbers, maxSteps=numbers, resumedFrom=numbers, lostSteps=numbers, processRestarts=numbers,
    metrics=metrics, testMetrics=metrics, baseline=metrics, baselineTest=metrics,
    gate=st.fixed_dictionaries(
        {"metric": texts, "value": numbers, "threshold": numbers, "passed": st.booleans()}
    ),
    lastCheckpoint=checkpoints, bestCheckpoint=checkpoints,
    model=st.fixed_dictionaries({"path": texts, "digest": texts}), failure=failures,
)  # fmt: skip
preparations = message(
    {"outcome": st.sampled_from(["succeeded", "failed"])},
    digest=texts, modelDigest=texts, modelRevision=texts, cacheHit=st.booleans(), rowsIn=numbers,
    rowsOut=numbers, splits=st.dictionaries(texts, numbers, max_size=6),
    removed=st.lists(
        st.fixed_dictionaries({"step": texts, "reason": texts, "rows": numbers}), max_size=4
    ).map(lambda rows: rows * 40),
    failure=failures,
)  # fmt: skip


def check(simulation: Simulation) -> None:
    """The status as the engine would send it."""
    sent = json.dumps(simulation.job, allow_nan=False)
    sent.encode()
    job = json.loads(sent)
    assert refusals(job) == []
    assert len(json.dumps(job["status"])) <= LIMIT
    for integer in integers(job["status"]):
        assert -(2**63) <= integer < 2**63
    for text in strings(job["status"]):
        assert text == clean(text)
        text.encode()


def integers(value: Any) -> list[int]:
    if isinstance(value, int):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for item in inner for found in integers(item)]


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for item in inner for found in strings(item)]


@slow
@given(reports)
def test_any_report_gives_a_status_that_the_schema_allows(report: dict[str, Any]) -> None:
    simulation = train()
    simulation.facts["train-1"] = report
    simulation.step()
    check(simulation)


@slow
@given(results, st.sampled_from([0, 1, 2, 75, 137, 143]))
def test_any_result_gives_a_status_that_the_schema_allows(result: dict[str, Any], code: int) -> None:
    simulation = train()
    simulation.finish_attempt("sentiment-train-1", code, "Failed" if code else "Complete", [result] * 2)
    check(simulation)


@slow
@given(preparations, st.sampled_from([0, 1, 2, 75]))
def test_any_preparation_gives_a_status_that_the_schema_allows(result: dict[str, Any], code: int) -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    simulation.run("sentiment-prepare-1", 1).settle()
    end = "Failed" if code else "Complete"
    simulation.put(simulation.pod("sentiment-prepare-1").ended(code, result)).end("sentiment-prepare-1", end)
    simulation.step()
    check(simulation)


@given(anything)
@settings(max_examples=500, deadline=None)
def test_any_message_is_read_or_is_none(value: Any) -> None:
    for model in (ProgressReport, TrainResult, PrepareResult):
        assert reading.read(model, value) is None or isinstance(reading.read(model, value), model)
        text = json.dumps(value)
        assert reading.read(model, text) is None or isinstance(reading.read(model, text), model)


def test_a_step_beyond_all_numbers_becomes_the_largest_and_the_rest_of_the_report_stays() -> None:
    simulation = train()
    simulation.facts["train-1"] = {
        "state": "training", "step": 10**30, "maxSteps": -3, "metrics": {"loss": 0.5, "eval_loss": float("nan")}
    }  # fmt: skip
    simulation.step()
    progress = simulation.status["progress"]
    assert progress["step"] == LARGEST
    assert progress["maxSteps"] == 0
    assert progress["metrics"] == {"loss": 0.5}
    check(simulation)


def test_thousands_of_metrics_leave_the_loss_and_long_names_are_cut() -> None:
    simulation = train()
    names = {f"a{i}": 1.0 for i in range(5000)}
    simulation.facts["train-1"] = {
        "state": "training", "step": 3, "metrics": {**names, "loss": 0.25, "A" * 5000: 2.0}
    }  # fmt: skip
    simulation.step()
    shown = simulation.status["progress"]["metrics"]
    assert len(shown) == 32
    assert shown["loss"] == 0.25
    assert max(map(len, shown)) == KEY_LIMIT
    check(simulation)


def test_a_half_character_in_a_result_does_not_cost_the_result() -> None:
    simulation = train(failurePolicy={"maxRestarts": 0})
    text = '{"outcome": "failed", "attempt": 1, "failure": {"reason": "UserCodeError", "message": "bad \\ud83d"}}'
    simulation.put(*[simulation.pod("sentiment-train-1", i).ended(1, text) for i in range(2)])
    simulation.end("sentiment-train-1", "Failed").step()
    assert simulation.message("Stalled") == "bad \ufffd"
    check(simulation)


def test_a_message_nested_without_end_is_no_message() -> None:
    assert reading.read(TrainResult, '{"a":' * 100_000) is None


@pytest.mark.parametrize("character", ["a", "é", "𝄞", "\n", '"'])
def test_twenty_failures_with_long_words_stay_below_the_limit_and_the_newest_keeps_its_words(
    character: str,
) -> None:
    simulation = train(failurePolicy={"maxRestarts": 100})
    for index in range(1, 23):
        words = {
            "reason": "UserCodeError",
            "message": f"{index} {character * 2000}",
            "excerpt": character * 3000,
        }
        result = train_result("failed", index, lostSteps=0, attempt=index, failure=words)
        simulation.finish_attempt(f"sentiment-train-{index}", 1, "Failed", [result] * 2)
        check(simulation)
        newest = simulation.status["attempts"][-1]["failure"]
        whole = 1 if len(character.encode()) <= 2 else 0.5
        assert len(newest["message"]) >= 1024 * whole
        assert len(newest["excerpt"]) >= 2048 * whole
        simulation.advance(700).settle()
        simulation.run(f"sentiment-train-{index + 1}", 2).settle()
    assert len(simulation.status["attempts"]) == 20
