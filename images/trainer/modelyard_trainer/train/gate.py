"""The gate: what counts as better, and as good enough."""

from __future__ import annotations

import math

from modelyard.contract.report import GateReport
from modelyard.contract.run import GateInput


def lower_is_better(gate: GateInput) -> bool:
    """Whether small values are good: a gate with `max` bounds from above."""
    return gate.max is not None or gate.min is None


def improves(gate: GateInput, value: float, best: float | None, min_delta: float = 0.0) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`. Not a number is never better."""
    if not math.isfinite(value):
        return False
    if best is None or not math.isfinite(best):
        return True
    return value < best - min_delta if lower_is_better(gate) else value > best + min_delta


def judge(gate: GateInput, metrics: dict[str, float]) -> GateReport:
    """Whether the metric is within the bound. Absent or not a number fails."""
    value = metrics.get(gate.metric, math.nan)
    threshold = float(gate.max if gate.max is not None else gate.min if gate.min is not None else math.nan)
    within = value <= threshold if gate.max is not None else value >= threshold
    return GateReport(
        metric=gate.metric,
        value=value if math.isfinite(value) else None,
        threshold=threshold,
        passed=math.isfinite(value) and within,
    )
