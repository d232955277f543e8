"""When to write a status.

Never what is there already, and what merely counts on not more often than every 10 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.engine.compare import digest, project
from modelyard.engine.plan import Key, Manifest, Plan

SLOW = 10.0


@dataclass(frozen=True, slots=True)
class StatusDecision:
    """Write now (`status` set), look again in `wait` seconds, or neither."""

    status: dict[str, Any] | None = None
    wait: float | None = None


class StatusWriter:
    """Remembers what was last written for each resource, when, and what the server made of it."""

    def __init__(self, slow: float = SLOW) -> None:
        self._slow = slow
        self._written: dict[Key, tuple[float, str, str]] = {}

    def decide(self, key: Key, resource: Manifest, plan: Plan, now: float) -> StatusDecision:
        """Compares the plan's status with the resource's. `now` is in monotonic seconds."""
        live = resource.get("status") or {}
        wanted = plain(plan.status)
        if live == wanted:
            return StatusDecision()
        last, written, kept = self._written.get(key, (float("-inf"), "", ""))
        # Others may keep conditions of their own in the list, and the schema may drop a field: no reason to
        # write the same again for ever.
        if written == digest(wanted) and kept == digest(project(live, wanted)):
            return StatusDecision()
        if last + self._slow > now and _without(live, plan.volatile) == _without(wanted, plan.volatile):
            return StatusDecision(wait=last + self._slow - now)
        return StatusDecision(status=wanted)

    def written(self, key: Key, status: Mapping[str, Any], answer: Mapping[str, Any], now: float) -> None:
        """The status was written; the server answered with `answer`."""
        self._written[key] = (now, digest(status), digest(project(answer, status)))

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._written.pop(key, None)


def plain(value: Any) -> Any:
    """The value as JSON gives it back: no None members, tuples as lists."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def _without(status: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {k: v for k, v in status.items() if k not in names}
