"""A question to a pod as HTTP, and its answer: the same whichever way the pod is reached."""

from __future__ import annotations

import json
from collections.abc import Mapping

from modelyard.observe.poller import Answer

MAX_BYTES = 1 << 18


def ask(wait: float, tag: str | None) -> dict[str, str]:
    """The question's headers."""
    headers = {}
    if tag is not None:
        headers["If-None-Match"] = tag
        if wait:
            headers["Prefer"] = f"wait={wait:.0f}"  # RFC 7240, section 4.3
    return headers


def read(status: int, headers: Mapping[str, str], body: bytes) -> Answer | None:
    """The answer; None where that is none. A user's pod may answer anything."""
    tag = headers.get("ETag")
    if status == 304:
        return Answer(None, tag)
    if status != 200 or len(body) > MAX_BYTES:
        return None
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return Answer(answer, tag) if isinstance(answer, dict) else None
