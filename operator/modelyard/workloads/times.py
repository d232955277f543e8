"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import datetime


def parse_time(text: str) -> datetime:
    """A Kubernetes time."""
    return datetime.fromisoformat(text)


def seconds_since(text: str | None, now: datetime) -> float:
    """Seconds from a Kubernetes time to now; 0 where it is unset."""
    return (now - parse_time(text)).total_seconds() if text else 0.0
