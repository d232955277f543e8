"""The gate: what a variant may lose, told by tables; and which of those that pass is served."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelyard.contract.build import BuildGate, VariantReport
from modelyard_build.gate import choose, judge


def report(**fields: Any) -> VariantReport:
    return VariantReport.model_validate({"name": "int8"} | fields)


@pytest.mark.parametrize(
    ("agreement", "least", "passes"),
    [
        (0.98, 0.98, True),
        (0.9799999, 0.98, False),
        (1.0, 1.0, True),
        (0.0, 0.0, True),
        (math.nan, 0.0, False),
        (math.inf, 0.5, False),
        (None, 0.0, False),
    ],
)
def test_agreement_must_reach_its_bound(agreement: float | None, least: float, passes: bool) -> None:
    reason = judge(BuildGate(min_agreement=least), report(), report(agreement=agreement))
    assert (reason is None) == passes
    assert passes or "is asked for" in str(reason)


@pytest.mark.parametrize(
    ("metric", "was", "found", "drop", "passes"),
    [
        ("accuracy", 0.9, 0.89, 0.01, True),  # 0.9 - 0.89 is more than 0.01 in binary fractions
        ("accuracy", 0.9, 0.8899, 0.01, False),
        ("accuracy", 0.9, 0.95, 0.0, True),
        ("accuracy", 0.9, 0.9, 0.0, True),
        ("f1", 0.3, 0.2, 0.1, True),
        ("f1", 0.3, 0.1999999, 0.1, False),
        ("cosine", 1.0, 0.99, 0.01, True),
        ("accuracy", 0.9, math.nan, 1.0, False),
        ("accuracy", 0.9, None, 1.0, False),
        ("accuracy", math.nan, 0.9, 1.0, False),
        # Of loss and perplexity a share.
        ("loss", 0.5, 0.55, 0.1, True),
        ("loss", 0.5, 0.5500001, 0.1, False),
        ("loss", 0.5, 0.4, 0.0, True),
        ("loss", 0.0, 0.0, 0.0, True),
        ("loss", 0.0, 0.001, 1.0, False),
        ("perplexity", 20.0, 20.2, 0.01, True),
        ("perplexity", 20.0, 20.21, 0.01, False),
        ("perplexity", 20.0, math.inf, 1.0, False),
        ("perplexity", math.inf, math.inf, 1.0, False),
        ("loss", 0.5, math.nan, 1.0, False),
    ],
)
def test_a_metric_may_lose_as_much_as_is_allowed(
    metric: str, was: float, found: float | None, drop: float, passes: bool
) -> None:
    gate = BuildGate(metric=metric, max_drop=drop)
    measured = {} if found is None else {metric: found}
    reason = judge(gate, report(metrics={metric: was}), report(metrics=measured))
    assert (reason is None) == passes
    assert passes or reason.startswith(metric)  # type: ignore[union-attr]


def test_a_metric_that_nobody_measured_says_what_is() -> None:
    gate = BuildGate(metric="accuracy", max_drop=0.5)
    none = judge(gate, report(), report(agreement=1.0))
    assert none is not None and "nothing is, without a dataset" in none and "minAgreement" in none
    other = judge(gate, report(metrics={"loss": 1.0}), report(metrics={"loss": 1.0}))
    assert other is not None and "(loss)" in other


def test_without_a_bound_everything_passes() -> None:
    assert judge(BuildGate(), report(), report(agreement=0.0)) is None


@given(was=st.integers(0, 1000), found=st.integers(0, 1000), drop=st.integers(0, 1000))
def test_drops_are_compared_as_whole_thousandths(was: int, found: int, drop: int) -> None:
    gate = BuildGate(metric="accuracy", max_drop=drop / 1000)
    reason = judge(gate, report(metrics={"accuracy": was / 1000}), report(metrics={"accuracy": found / 1000}))
    assert (reason is None) == (was - found <= drop)


def test_the_fastest_of_those_that_passed_is_served() -> None:
    none = report(name="none", requests_per_second=100.0, passed=True)
    bf16 = report(name="bf16", requests_per_second=180.0, passed=True)
    int8 = report(name="int8", requests_per_second=300.0, passed=False)
    assert choose([none, bf16, int8]) == bf16
    assert choose([none, bf16, int8.model_copy(update={"passed": True})]).name == "int8"  # type: ignore[union-attr]
    assert choose([none, report(name="bf16", requests_per_second=100.0, passed=True)]) == none
    assert choose([none, report(name="int8", passed=True)]) == none
    assert choose([int8]) is None


def test_what_chance_explains_makes_no_variant_the_faster_one() -> None:
    def of(name: str, rate: float) -> VariantReport:
        return report(name=name, requests_per_second=rate, passed=True)

    none = of("none", 100.0)
    assert choose([none, of("bf16", 104.9), of("int8", 105.0)]) == none
    assert choose([none, of("bf16", 106.0), of("int8", 107.0)]) == of("bf16", 106.0)
    assert choose([none, of("bf16", 106.0), of("int8", 112.0)]) == of("int8", 112.0)
