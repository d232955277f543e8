"""What one status of a TrainingJob says more than the one before it: what totals by project and team grow by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.engine.measure import Family, Sample
from modelyard.training.status.goodput import STATES

Status = Mapping[str, Any]

_PREFIX = "modelyard_job_"
_ENDED = "modelyard_jobs_ended_total"
# The names of status.counters, and those of the causes in metrics.
CAUSES = {
    "userFailures": "user",
    "infraFailures": "infrastructure",
    "preemptions": "preemption",
    "processRestarts": "process",
}

FAMILIES = (
    Family(_ENDED, "Jobs that have ended.", ("phase",)),
    Family(_PREFIX + "state_seconds_total", "Where the time of attempts went.", ("state",)),
    Family(_PREFIX + "resource_hours_total", "Hours of cores, GiB and devices set aside.", ("resource",)),
    Family(_PREFIX + "cost_total", "What those cost by the prices of their time.", ("currency",)),
    Family(_PREFIX + "interruptions_total", "What ended attempts or restarted processes.", ("cause",)),
    Family(_PREFIX + "lost_steps_total", "Steps that attempts did and had not saved when they ended."),
)


def count(before: Status, after: Status) -> Iterator[Sample]:
    """What has come on top: less than nothing where a number has become smaller, and nothing where a count may come."""
    ended = "completionTime" in after and "completionTime" not in before
    for phase in ("Succeeded", "Failed"):
        yield Sample(_ENDED, float(ended and after.get("phase") == phase), (phase,))
    for name, place, labels in (
        ("state_seconds_total", "goodput.seconds", STATES),
        ("resource_hours_total", "cost.hours", ()),
    ):
        old, new = _numbers(before, place), _numbers(after, place)
        for label in dict.fromkeys((*labels, *new)):
            yield Sample(_PREFIX + name, new.get(label, 0.0) - old.get(label, 0.0), (label,))
    # Also of a currency that has given way to another, or of prices that are gone: they may come back.
    old, new = _amounts(before), _amounts(after)
    for currency in dict.fromkeys((*old, *new)):
        yield Sample(_PREFIX + "cost_total", new.get(currency, 0.0) - old.get(currency, 0.0), (currency,))
    old, new = _numbers(before, "counters"), _numbers(after, "counters")
    for name, cause in CAUSES.items():
        yield Sample(_PREFIX + "interruptions_total", new.get(name, 0.0) - old.get(name, 0.0), (cause,))
    lost = _lost_steps(before)
    more = sum(steps - lost.get(index, 0) for index, steps in _lost_steps(after).items())
    yield Sample(_PREFIX + "lost_steps_total", float(more))


def _numbers(status: Status, place: str) -> dict[str, float]:
    value: Any = status
    for name in place.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping):
        return {}
    return {name: float(number) for name, number in value.items() if isinstance(number, (int, float))}


def _amounts(status: Status) -> dict[str, float]:
    """By currency."""
    amount = _numbers(status, "cost").get("amount")
    return {} if amount is None else {str(status["cost"].get("currency", "")): amount}


def _lost_steps(status: Status) -> dict[Any, int]:
    """By attempt: a status has room for the latest ones only."""
    attempts = status.get("attempts") or ()
    return {attempt.get("index"): attempt.get("lostSteps") or 0 for attempt in attempts}
