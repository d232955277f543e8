"""The gate: whether a variant is good enough, and which of the good ones is served. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from modelyard.contract.build import BuildGate, VariantReport

from modelyard_build.measuring.knee import GAIN

_LOWER_IS_BETTER = ("loss", "perplexity")


def judge(gate: BuildGate, base: VariantReport, variant: VariantReport) -> str | None:
    """Why a variant doesn't pass beside the model as it was trained; None: it does.

    Bounds are compared as the decimal numbers that they are written as, and a value that equals its bound passes.
    """
    if gate.min_agreement is not None:
        found = variant.agreement
        if found is not None and _exact(found) is not None and found >= gate.min_agreement:
            return None
        return f"agreement {_show(found)}, and at least {gate.min_agreement:g} is asked for"
    if gate.metric is None or gate.max_drop is None:
        return None
    if gate.metric not in base.metrics:
        known = ", ".join(sorted(base.metrics)) or "nothing is, without a dataset"
        return f"{gate.metric} isn't measured for this model ({known}): gate on minAgreement, or on what is measured"
    was, found = base.metrics[gate.metric], variant.metrics.get(gate.metric)
    if _within(gate.metric, was, found, gate.max_drop):
        return None
    allowed = f"{gate.max_drop:.2%}" if gate.metric in _LOWER_IS_BETTER else f"{gate.max_drop:g}"
    return f"{gate.metric} {_show(found)}, where the model as trained has {_show(was)} and may lose {allowed}"


def choose(variants: Sequence[VariantReport]) -> VariantReport | None:
    """The fastest at its knee of those that passed; of equals the one that changes least, which stands first.

    What is within GAIN of the fastest is its equal: so much is chance.
    """
    passed = [v for v in variants if v.passed and v.requests_per_second is not None]
    highest = max((v.requests_per_second or 0.0 for v in passed), default=0.0)
    return next((v for v in passed if (v.requests_per_second or 0.0) * GAIN >= highest), None)


def _within(metric: str, was: float, found: float | None, allowed: float) -> bool:
    a, b, drop = _exact(was), _exact(found), _exact(allowed)
    if a is None or b is None or drop is None:
        return False
    return b <= a * (1 + drop) if metric in _LOWER_IS_BETTER else a - b <= drop


def _exact(value: float | None) -> Decimal | None:
    # The shortest decimal: 0.9 - 0.89 is 0.01, which binary fractions don't say.
    return Decimal(repr(float(value))) if value is not None and math.isfinite(value) else None


def _show(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.6g}"
