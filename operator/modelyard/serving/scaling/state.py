"""What a decision must know of earlier ones. It lies in the resource's status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Held:
    """So many replicas were wished for; they stay until then (Unix seconds)."""

    replicas: int
    until: int


@dataclass(frozen=True, slots=True)
class ScalingState:
    """panic_until: Unix seconds. growing_since: when replicas were added that aren't all ready. held: fewer and fewer replicas, for longer and longer; at most a few dozen.

    It changes when panic or a wish for fewer replicas begins or ends, and every 6 s or more while one lasts; not under
    a load that fits. An empty state says that what is there was wished for until now, so one that gets lost delays a
    scale-down and never causes one.
    """

    panic_until: int | None = None
    growing_since: int | None = None
    held: tuple[Held, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the status: only what is there."""
        written: dict[str, Any] = {}
        if self.panic_until is not None:
            written["panicUntil"] = self.panic_until
        if self.growing_since is not None:
            written["growingSince"] = self.growing_since
        if self.held:
            written["held"] = [{"replicas": h.replicas, "until": h.until} for h in self.held]
        return written

    @classmethod
    def from_json(cls, written: Any) -> ScalingState:
        """As it was written. What can't be read counts as lost."""
        if not isinstance(written, Mapping):
            return cls()
        panic, since = _whole(written.get("panicUntil")), _whole(written.get("growingSince"))
        held = written.get("held", [])
        if not isinstance(held, list):
            return cls(panic, since)
        entries = [(_whole(h.get("replicas")), _whole(h.get("until"))) for h in held if isinstance(h, Mapping)]
        kept = tuple(Held(replicas, until) for replicas, until in entries if replicas and until is not None)
        return cls(panic, since, kept if len(kept) == len(held) else ())


def _whole(value: Any) -> int | None:
    """The API server may give a whole number back as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else None
