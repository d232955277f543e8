"""What pods set aside, in resource hours, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.api.profile import Prices
from modelyard.api.values import parse_quantity

Hours = Mapping[str, float]

_HOUR = 3600.0
_GIB = 2.0**30
_IN_BYTES = ("memory", "ephemeral-storage")
_DIGITS = 9  # of hours: far below a second of a thousandth of a core


@dataclass(frozen=True, slots=True)
class Usage:
    """Pods that set aside `amounts` each (cores, GiB, devices), for so many seconds by now."""

    amounts: Hours
    pods: int
    seconds: float

    @property
    def hours(self) -> dict[str, float]:
        """By resource."""
        return self.hours_of(self.seconds)

    def hours_of(self, seconds: float) -> dict[str, float]:
        """By resource, for another time."""
        hours = {name: amount * self.pods * seconds / _HOUR for name, amount in self.amounts.items()}
        return {name: round(value, _DIGITS) for name, value in hours.items() if value}


def list_amounts(pod: Mapping[str, Any]) -> dict[str, float]:
    """What a pod's spec sets aside: the requests of all that runs in it. Cores, GiB, devices.

    As the scheduler reckons: a limit without a request is one, and what the pod as a whole asks for goes before that.
    Init containers count where they run on beside the others; those that end are over in seconds, and ask for less.
    """
    sidecars = [c for c in pod.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    amounts: dict[str, float] = {}
    for container in (*(pod.get("containers") or ()), *sidecars):
        for name, amount in _read_requests(container).items():
            amounts[name] = amounts.get(name, 0.0) + amount
    return {**amounts, **_read_requests(pod)}


def _read_requests(owner: Mapping[str, Any]) -> dict[str, float]:
    resources = owner.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: parse_quantity(text) / (_GIB if name in _IN_BYTES else 1.0) for name, text in asked.items()}


def add(one: Hours, other: Hours) -> dict[str, float]:
    """The sums, by resource."""
    names = sorted({*one, *other})
    return {name: round(one.get(name, 0.0) + other.get(name, 0.0), _DIGITS) for name in names}


def price(hours: Hours, prices: Prices) -> float:
    """What they cost. Resources without a price cost nothing."""
    return round(sum(value * prices.per_hour.get(name, 0.0) for name, value in hours.items()), 4)
