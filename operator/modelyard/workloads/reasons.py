"""Reasons that others have chosen: a pod's program, another controller."""

from __future__ import annotations

import re

from modelyard.api.conditions import REASON_PATTERN

# Of a status' own fields with reasons, which are shorter than a condition's may be.
LIMIT = 128
_REASON = re.compile(REASON_PATTERN)


def as_reason(text: str, default: str) -> str:
    """`text` where a condition can have it for its reason, else `default`."""
    return text if len(text) <= LIMIT and _REASON.fullmatch(text) else default
