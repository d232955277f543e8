"""When to write a status.

Never what is there already, and what merely counts on not more often than every 10 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.engine.compare import project
from modelyard.engine.plan import Key, Manifest, Plan

SLOW = 10.0
# After a refusal the next try waits, twice as long each time: a policy of others may be changed at any time,
# but a status that the schema does not allow is written only once the plan says something else.
FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class StatusDecision:
    """Write now (`status` set), look again in `wait` seconds, or neither."""

    status: dict[str, Any] | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class _Written:
    """When a status was written, and where the server keeps it otherwise than asked.

    What was asked and is kept.
    """

    at: float
    asked: dict[str, Any] | None = None
    kept: Any = None


@dataclass(frozen=True, slots=True)
class _Refused:
    """How often the server has refused in a row, when to try again, and what it said."""

    times: int
    until: float
    message: str


_NEVER = _Written(float("-inf"))


class StatusWriter:
    """Remembers what was last written for each resource, when, and what the server made of it."""

    def __init__(self, slow: float = SLOW) -> None:
        self._slow = slow
        self._written: dict[Key, _Written] = {}
        self._refused: dict[Key, _Refused] = {}

    def decide(self, key: Key, resource: Manifest, plan: Plan, now: float) -> StatusDecision:
        """Compares the plan's status with the resource's. `now` is in monotonic seconds."""
        live = resource.get("status") or {}
        wanted = plain(plan.status)
        if live == wanted:
            return StatusDecision()
        refused = self._refused.get(key)
        if refused is not None and refused.until > now:
            return StatusDecision(wait=refused.until - now)
        last = self._written.get(key, _NEVER)
        # Others may keep conditions of their own in the list, and the schema may drop a field: no reason to
        # write the same again for ever.
        if last.asked == wanted and project(live, wanted) == last.kept:
            return StatusDecision()
        if last.at + self._slow > now and _without(live, plan.volatile) == _without(wanted, plan.volatile):
            return StatusDecision(wait=last.at + self._slow - now)
        return StatusDecision(status=wanted)

    def written(self, key: Key, status: dict[str, Any], answer: Mapping[str, Any], now: float) -> None:
        """The status was written; the server answered with `answer`."""
        self._refused.pop(key, None)
        if answer == status:
            self._written[key] = _Written(now)  # a comparison with the live status tells all
        else:
            self._written[key] = _Written(now, status, project(answer, status))

    def refused(self, key: Key, message: str, now: float) -> tuple[float, bool]:
        """The server said no. Returns the seconds until the next try, and whether its words are new."""
        before = self._refused.get(key)
        times = before.times if before else 0
        wait = min(FIRST_WAIT * 2.0 ** min(times, 10), LONGEST_WAIT)
        self._refused[key] = _Refused(times + 1, now + wait, message)
        return wait, before is None or before.message != message

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._written.pop(key, None)
        self._refused.pop(key, None)


def plain(value: Any) -> Any:
    """The value as JSON gives it back: no None members, tuples as lists."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def _without(status: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {k: v for k, v in status.items() if k not in names}
