"""The size of a whole status: one that grows without bound is refused by the API server in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from modelyard.api.bounded import shorten

# Bytes of JSON as it is sent, in ASCII. Thousands of jobs are held in memory, also by those who watch them.
LIMIT = 64 * 1024
_SHORT_MESSAGE = 80


def limit(status: dict[str, Any]) -> dict[str, Any]:
    """The status, without its least telling words where it would be too large: the oldest go first."""
    data = status.get("data") or {}
    if not data.get("removed") and not any("failure" in attempt for attempt in status.get("attempts", [])):
        return status  # all the rest together stays far below, and most passes need not measure it
    excess = _size(status) - LIMIT
    if excess <= 0:
        return status
    status = {
        **status,
        "attempts": [_copy(attempt) for attempt in status.get("attempts", [])],
        **({"data": {**data, "removed": list(data.get("removed", []))}} if data else {}),
    }
    for spared in _give_up(status):
        excess -= spared
        if excess <= 0:
            break
    return status


def _give_up(status: dict[str, Any]) -> Iterator[int]:
    """Leaves out one thing after the other; yields how many bytes less that makes."""
    failures = [attempt["failure"] for attempt in status["attempts"] if attempt.get("failure")]
    for failure in failures[:-1]:
        yield _take(failure, "excerpt")
    for failure in failures[:-1]:
        before = _size(failure)
        failure["message"] = shorten(failure.get("message", ""), _SHORT_MESSAGE)
        yield before - _size(failure)
    removed = (status.get("data") or {}).get("removed", [])
    while removed:
        yield _size(removed.pop())
    for failure in failures[-1:]:
        yield _take(failure, "excerpt")


def _take(value: dict[str, Any], name: str) -> int:
    return _size(value.pop(name)) if name in value else 0


def _copy(attempt: dict[str, Any]) -> dict[str, Any]:
    failure = attempt.get("failure")
    return {**attempt, "failure": dict(failure)} if failure else attempt


def _size(value: Any) -> int:
    return len(json.dumps(value))
