"""What other controllers have said in Events about objects of ours.

One listing serves all that ask about a kind in a namespace: where a quota refuses the pods of a thousand Jobs,
it is still one call in five seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.cluster.client import Client
from modelyard.engine.errors import ClusterError
from modelyard.engine.plan import Manifest
from modelyard.engine.probe import EventProbe

FRESH = 5.0  # seconds for which a listing is good for others that ask
# The Job controller repeats itself at least once in five minutes (more often it may not); what is older may
# be cured.
OLDEST = timedelta(minutes=10)
MOST = 5  # newest Events of one object
MESSAGE_LIMIT = 1024

# What was said when, by the uid of the object that it is about: time, reason, message.
_Listing = dict[str, list[tuple[datetime, str, str]]]


class EventReader:
    """Implements `observe.poller.EventSource`. `monotonic` is in seconds, `now` is the wall clock in UTC."""

    def __init__(
        self,
        client: Client,
        monotonic: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._monotonic = monotonic
        self._now = now
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._listings: dict[tuple[str, str], tuple[float, _Listing]] = {}

    async def read_events(self, probe: EventProbe, timeout: float) -> dict[str, Any] | None:
        """The newest Warning Events about the object; empty where there are none, None where no one answers."""
        try:
            listing = await asyncio.wait_for(self._list((probe.namespace, probe.kind), timeout), timeout)
        except (ClusterError, ValueError, TimeoutError):
            return None
        since = self._now() - OLDEST
        told = sorted((t for t in listing.get(probe.uid, ()) if t[0] >= since), reverse=True)
        # Without times and counts: the same said again is no news.
        said = dict.fromkeys((reason, message) for _, reason, message in told)
        events = [{"reason": reason, "message": message} for reason, message in said]
        return {"events": events[:MOST]} if events else {}

    async def _list(self, place: tuple[str, str], timeout: float) -> _Listing:
        async with self._locks.setdefault(place, asyncio.Lock()):
            now = self._monotonic()
            for other in [p for p, (at, _) in self._listings.items() if at + FRESH <= now]:
                del self._listings[other]
            if place not in self._listings:
                events = await self._client.list_events(*place, timeout)
                self._listings[place] = (now, _digest(events))
            return self._listings[place][1]


def _digest(events: list[Manifest]) -> _Listing:
    listing: _Listing = {}
    for event in events:
        time = _time_of(event)
        if time is not None:
            uid = str((event.get("involvedObject") or {}).get("uid"))
            message = str(event.get("message") or "")[:MESSAGE_LIMIT]
            listing.setdefault(uid, []).append((time, str(event.get("reason") or ""), message))
    return listing


def _time_of(event: Manifest) -> datetime | None:
    """When it was last said: core Events and events.k8s.io's write it in different places."""
    series = event.get("series") or {}
    for text in (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        (event.get("metadata") or {}).get("creationTimestamp"),
    ):
        if text:
            return datetime.fromisoformat(text)
    return None
