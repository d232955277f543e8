"""What a decision must know of earlier ones. It lies in the resource's status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TIMES = {"panic_until": "panicUntil", "rising_since": "risingSince", "growing_since": "growingSince"}


@dataclass(frozen=True, slots=True)
class Held:
    """So many replicas were wished for; they stay until then (Unix seconds)."""

    replicas: int
    until: int


@dataclass(frozen=True, slots=True)
class ScalingState:
    """All times are Unix seconds. panic_until: panic's end. rising_since: when the load began to ask for more.
    growing_since: when replicas were added that aren't all ready. held: fewer and fewer replicas, for longer and
    longer; at most a few dozen.

    It changes when panic or a wish for fewer replicas begins or ends, and every 6 s or more while one lasts; not under
    a load that fits. An empty state says that what is there was wished for until now, so one that gets lost delays a
    scale-down and never causes one.
    """

    panic_until: int | None = None
    rising_since: int | None = None
    growing_since: int | None = None
    held: tuple[Held, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the status: only what is there."""
        times = {name: getattr(self, field) for field, name in _TIMES.items()}
        written: dict[str, Any] = {name: at for name, at in times.items() if at is not None}
        if self.held:
            written["held"] = [{"replicas": h.replicas, "until": h.until} for h in self.held]
        return written

    @classmethod
    def from_json(cls, written: Any) -> ScalingState:
        """As it was written. What can't be read counts as lost."""
        if not isinstance(written, Mapping):
            return cls()
        times = {field: _whole(written.get(name)) for field, name in _TIMES.items()}
        held = written.get("held")
        listed = [h for h in held if isinstance(h, Mapping)] if isinstance(held, list) else []
        entries = [(_whole(h.get("replicas")), _whole(h.get("until"))) for h in listed]
        kept = tuple(Held(replicas, until) for replicas, until in entries if replicas and until is not None)
        return cls(**times, held=kept if isinstance(held, list) and len(kept) == len(held) else ())


def _whole(value: Any) -> int | None:
    """The API server may give a whole number back as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else None
