"""What all gateways of a deployment report, summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from modelyard.contract.load import STABLE_SECONDS, LoadReport, Window


@dataclass(frozen=True, slots=True)
class Load:
    """The sum over the gateways that answered, `answered` of `gateways`.

    queued, running: requests, now. idle_seconds, covered_seconds: the least of all gateways' (see LoadReport).
    """

    queued: int = 0
    running: int = 0
    stable: Window = field(default_factory=Window)
    panic: Window = field(default_factory=Window)
    idle_seconds: float = 0.0
    covered_seconds: float = STABLE_SECONDS
    answered: int = 1
    gateways: int = 1

    @property
    def busy(self) -> bool:
        """Whether there is work now."""
        return self.queued > 0 or self.running > 0

    @property
    def usable(self) -> bool:
        """Whether anything can be decided by it."""
        return self.answered > 0

    @property
    def complete(self) -> bool:
        """Whether it may be decided by it that replicas go: all gateways told, of a whole stable window."""
        return self.answered >= self.gateways and self.covered_seconds >= STABLE_SECONDS


def total(reports: Sequence[LoadReport], gateways: int) -> Load:
    """The load of `gateways` gateways of which these have reported."""
    return Load(
        queued=sum(r.queued for r in reports),
        running=sum(r.running for r in reports),
        stable=_sum([r.stable for r in reports]),
        panic=_sum([r.panic for r in reports]),
        idle_seconds=min((r.idle_seconds for r in reports), default=0.0),
        covered_seconds=min((r.covered_seconds for r in reports), default=0.0),
        answered=len(reports),
        gateways=gateways,
    )


def _sum(windows: Sequence[Window]) -> Window:
    return Window(
        queued=sum(w.queued for w in windows),
        running=sum(w.running for w in windows),
        arrival_rate=sum(w.arrival_rate for w in windows),
        finish_rate=sum(w.finish_rate for w in windows),
    )
