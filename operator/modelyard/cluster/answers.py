"""What an error answer of the API server means for the caller."""

from __future__ import annotations

import json
import re
from typing import Any

from modelyard.engine.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Ending,
    Expired,
    NotFound,
    Refused,
    Throttled,
    Unavailable,
)

MESSAGE_LIMIT = 1024
# Webhooks put whole sentences into the reason, which no condition takes.
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_NO_WEBHOOK = "failed calling webhook"
DEFAULT_RETRY_AFTER = 1.0


def error_of(code: int, content: bytes, call: str, retry_after: str | None = None) -> ClusterError:
    """The exception for an answer with an HTTP code of 400 or more.

    `content` is a metav1.Status, if the server made it.
    """
    status = _status(content)
    message = str(status.get("message") or content[:MESSAGE_LIMIT].decode(errors="replace") or f"HTTP {code}")
    message = message[:MESSAGE_LIMIT]
    reason = str(status.get("reason") or "")
    causes = {
        c.get("reason") for c in (status.get("details") or {}).get("causes") or [] if isinstance(c, dict)
    }
    if code == 404:
        return NotFound(f"{call}: {message}")
    if code == 409:
        return (AlreadyExists if reason == "AlreadyExists" else Conflict)(message)
    if code == 429:
        return Throttled(f"{call}: {message}", _seconds(retry_after))
    if code == 410:
        return Expired(f"{call}: {message}")
    if code >= 500 and _NO_WEBHOOK in message:
        # An admission webhook of somebody else's that may be down for days: no trouble of the server's own.
        return Refused("WebhookUnavailable", message)
    if code in (408, 401) or code >= 500:
        # 401: a rotated token; the next call reads the new one.
        return Unavailable(f"{call}: {code} {message}")
    if code == 403 and "NamespaceTerminating" in causes:
        return Ending(message)
    if code == 403 and "exceeded quota" in message:
        return Refused("QuotaExceeded", message)
    if not _REASON.fullmatch(reason):
        reason = "Forbidden" if code == 403 else "Refused"
    return Refused(reason, message)


def _status(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after)) if retry_after else DEFAULT_RETRY_AFTER
    except ValueError:  # a date; servers in between send such
        return DEFAULT_RETRY_AFTER
