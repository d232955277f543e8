"""Asks agents for progress, and the API server for Events.

Agents every two seconds while they are few, less often as they grow, never more than so many at once; Events
less and less often while they stay the same. Keeps the last answers as facts, and says when one has changed.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelyard.engine.plan import EventProbe, Key, ObjectProbe, Probe
from modelyard.engine.ports import Clock

INTERVAL = 2.0  # seconds between two questions to one agent, while they are few
BUDGET = 50.0  # questions per second over all agents
PARALLEL = 32  # questions at once
TIMEOUT = 3.0  # seconds for one answer
LONGEST = 30.0  # seconds between two questions to an agent that does not answer
EVENT_INTERVAL = 5.0  # seconds between the first two questions for Events
EVENT_LONGEST = 60.0  # seconds between two questions for Events that stay the same


class Reader(Protocol):
    """How an agent is reached."""

    async def read(self, probe: Probe, timeout: float) -> dict[str, Any] | None:
        """The agent's answer, or None where there is none within `timeout` seconds. Never raises."""


class EventSource(Protocol):
    """How Events are reached."""

    async def read_events(self, probe: EventProbe, timeout: float) -> dict[str, Any] | None:
        """The answer, or None where there is none within `timeout` seconds. Never raises."""


class ObjectSource(Protocol):
    """How objects of others are reached."""

    async def read_object(self, probe: ObjectProbe, timeout: float) -> dict[str, Any] | None:
        """The answer, or None where there is none within `timeout` seconds. Never raises."""


class ProbeMetrics(Protocol):
    """What is measured of probing."""

    def probed(self, result: str) -> None:
        """An agent was asked: `changed`, `same`, `failed`."""

    def probing(self, probes: int, interval: float) -> None:
        """So many agents are asked, each every `interval` seconds."""


@dataclass(slots=True)
class _Watched:
    key: Key
    probe: Probe | EventProbe | ObjectProbe
    answer: dict[str, Any] | None = None
    failures: int = 0
    repeats: int = 0
    dropped: bool = False


@dataclass(order=True, slots=True)
class _Due:
    at: float
    order: int
    watched: _Watched = field(compare=False)


class ProgressPoller:
    """Implements `engine.ports.Facts`."""

    def __init__(
        self,
        reader: Reader,
        events: EventSource,
        clock: Clock,
        changed: Callable[[Key], object],
        metrics: ProbeMetrics,
        *,
        objects: ObjectSource | None = None,
        interval: float = INTERVAL,
        budget: float = BUDGET,
        parallel: int = PARALLEL,
    ) -> None:
        self._reader = reader
        self._events = events
        self._objects = objects
        self._clock = clock
        self._changed = changed
        self._metrics = metrics
        self._interval = interval
        self._budget = budget
        self._slots = asyncio.Semaphore(parallel)
        self._watched: dict[Key, dict[str, _Watched]] = {}
        self._due: list[_Due] = []
        self._order = itertools.count()
        self._count = 0
        self._wake = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()

    def watch(self, key: Key, probes: Sequence[Probe | EventProbe | ObjectProbe]) -> None:
        """Asks exactly these probes for this resource from now on."""
        old = self._watched.get(key)
        if not old and not probes:
            return
        new: dict[str, _Watched] = {}
        for probe in probes:
            same = (
                old.pop(probe.name) if old and probe.name in old and old[probe.name].probe == probe else None
            )
            new[probe.name] = same or self._begin(key, probe)
        for left in (old or {}).values():
            left.dropped = True
            self._count -= isinstance(left.probe, Probe)
        if new:
            self._watched[key] = new
        else:
            self._watched.pop(key, None)
        self._metrics.probing(self._count, self.interval)

    def of(self, key: Key) -> Mapping[str, Mapping[str, Any]]:
        """The last answers, by the probes' names."""
        watched = self._watched.get(key)
        return {name: w.answer for name, w in watched.items() if w.answer is not None} if watched else {}

    @property
    def interval(self) -> float:
        """Seconds between two questions to one agent at present."""
        return max(self._interval, self._count / self._budget)

    async def run(self) -> None:
        """Asks until cancelled."""
        try:
            while True:
                while self._due and self._due[0].at <= self._clock.monotonic():
                    watched = heapq.heappop(self._due).watched
                    if not watched.dropped:
                        await self._slots.acquire()
                        task = asyncio.create_task(self._ask(watched))
                        self._asking.add(task)
                        task.add_done_callback(self._asking.discard)
                self._wake.clear()
                timer = None
                if self._due:
                    timer = self._clock.call_later(self._due[0].at - self._clock.monotonic(), self._wake.set)
                await self._wake.wait()
                if timer is not None:
                    timer.cancel()
        finally:
            for task in tuple(self._asking):
                task.cancel()
            await asyncio.gather(*self._asking, return_exceptions=True)

    def _begin(self, key: Key, probe: Probe | EventProbe | ObjectProbe) -> _Watched:
        watched = _Watched(key, probe)
        self._count += isinstance(probe, Probe)
        self._schedule(watched, probe.after if isinstance(probe, EventProbe) else 0.0)
        return watched

    def _schedule(self, watched: _Watched, delay: float) -> None:
        heapq.heappush(self._due, _Due(self._clock.monotonic() + delay, next(self._order), watched))
        self._wake.set()

    async def _ask(self, watched: _Watched) -> None:
        try:
            if isinstance(watched.probe, EventProbe):
                answer = await self._events.read_events(watched.probe, TIMEOUT)
            elif isinstance(watched.probe, ObjectProbe):
                answer = await self._objects.read_object(watched.probe, TIMEOUT) if self._objects else None
            else:
                answer = await self._reader.read(watched.probe, TIMEOUT)
        finally:
            self._slots.release()
        if watched.dropped:
            return
        if answer is None:
            watched.failures += 1
            self._metrics.probed("failed")
        else:
            watched.failures = 0
            # An empty first answer is none: no pass need look at it.
            news = answer != (watched.answer or {})
            watched.repeats = 0 if news else watched.repeats + 1
            watched.answer = answer
            self._metrics.probed("changed" if news else "same")
            if news:
                self._changed(watched.key)
        if not isinstance(watched.probe, Probe):
            delay = EVENT_INTERVAL * 2 ** min(max(watched.failures, watched.repeats), 4)
            self._schedule(watched, min(delay, EVENT_LONGEST))
            return
        delay = self.interval * 2 ** min(watched.failures, 4)
        self._schedule(watched, min(delay, max(LONGEST, self.interval)))
