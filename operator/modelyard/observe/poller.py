"""Asks pods, and the API server for what no watch tells.

Never more than so many at once. Keeps the last answers as facts, and says when one has changed, and when a pod falls
silent or is heard again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from modelyard.engine.plan import Key
from modelyard.engine.ports import Clock
from modelyard.engine.probe import Age, EventProbe, ObjectProbe, Probe
from modelyard.observe.descriptors import HELD
from modelyard.observe.pace import BUDGET, Pace, pause

PARALLEL = 32  # questions at once
TIMEOUT = 3.0  # seconds for one answer, beyond those for which it may be held back

Polled = Probe | EventProbe | ObjectProbe


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pod says; `body` None where it is what it said before. `tag` names it, in the pod's own way."""

    body: dict[str, Any] | None
    tag: str | None = None


class Reader(Protocol):
    """How a pod is reached."""

    async def read(self, probe: Probe, timeout: float, wait: float, tag: str | None) -> Answer | None:
        """The answer, or None where there is none within `timeout` seconds. Never raises.

        For `wait` seconds the pod may hold it back while it is still the one of this `tag`.
        """


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
        """Somebody was asked: `changed`, `same`, `failed`."""

    def probing(self, probes: int, interval: float) -> None:
        """So many pods are asked, each every `interval` seconds unless it has an interval of its own."""


@dataclass(slots=True)
class _Watched:
    key: Key
    probe: Polled
    answer: Answer | None = None
    failures: int = 0
    repeats: int = 0
    dropped: bool = False
    # When the answer came, and when there was last a sign of life (monotonic seconds). Before the first: when it began.
    came: float = 0.0
    heard: float = 0.0


@dataclass(order=True, slots=True)
class _Due:
    at: float
    order: int
    watched: _Watched = field(compare=False)


class Poller:
    """Implements `engine.ports.Facts` for questions that are asked again and again."""

    def __init__(
        self,
        reader: Reader,
        events: EventSource,
        objects: ObjectSource,
        clock: Clock,
        changed: Callable[[Key], object],
        metrics: ProbeMetrics,
        *,
        budget: float = BUDGET,
        parallel: int = PARALLEL,
        held: int = HELD,
    ) -> None:
        """`held` questions beside the `parallel` ones may wait for their answers; further ones are asked without."""
        self._reader = reader
        self._events = events
        self._objects = objects
        self._clock = clock
        self._changed = changed
        self._metrics = metrics
        self._pace = Pace(budget)
        self._slots = asyncio.Semaphore(parallel)
        self._free_holds = held
        self._watched: dict[Key, dict[str, _Watched]] = {}
        self._due: list[_Due] = []
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()

    def watch(self, key: Key, probes: Sequence[Polled]) -> None:
        """Asks exactly these for this resource from now on."""
        old = self._watched.pop(key, {})
        if not old and not probes:
            return
        new = {}
        for probe in probes:
            known = old.get(probe.name)
            new[probe.name] = known if known and known.probe == probe else self._begin(key, probe, known)
        for name, left in old.items():
            if new.get(name) is not left:
                self._end(left)
        if new:
            self._watched[key] = new
        self._metrics.probing(self._pace.pods, self._pace.interval())

    def of(self, key: Key) -> Mapping[str, Mapping[str, Any]]:
        """The last answers, by the probes' names."""
        watched = self._watched.get(key)
        if not watched:
            return {}
        return {name: w.answer.body for name, w in watched.items() if w.answer and w.answer.body is not None}

    def ages(self, key: Key) -> Mapping[str, Age]:
        """How old the answers of pods are; and of those that have only been asked in vain, for how long."""
        now = self._clock.monotonic()
        return {
            name: Age(now - w.came, now - w.heard if w.failures else 0.0)
            for name, w in self._watched.get(key, {}).items()
            if (w.answer or w.failures) and isinstance(w.probe, Probe)
        }

    async def run(self) -> None:
        """Asks until cancelled."""
        try:
            while True:
                while self._due and self._due[0].at <= self._clock.monotonic():
                    watched = heapq.heappop(self._due).watched
                    if not watched.dropped:
                        await self._start(watched)
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

    def _begin(self, key: Key, probe: Polled, known: _Watched | None) -> _Watched:
        now = self._clock.monotonic()
        watched = _Watched(key, probe, came=now, heard=now)
        if known is not None and _same_pod(known.probe, probe):
            # Only how often it is asked is another: what it has said still holds.
            watched.answer, watched.failures = known.answer, known.failures
            watched.came, watched.heard = known.came, known.heard
        if isinstance(probe, Probe):
            self._pace.begin(probe)
        self._schedule(watched, probe.after if isinstance(probe, EventProbe) else 0.0)
        return watched

    def _end(self, watched: _Watched) -> None:
        watched.dropped = True
        if isinstance(watched.probe, Probe):
            self._pace.end(watched.probe)

    def _schedule(self, watched: _Watched, delay: float) -> None:
        heapq.heappush(self._due, _Due(self._clock.monotonic() + delay, next(self._order), watched))
        self._wake.set()

    async def _start(self, watched: _Watched) -> None:
        """Has it asked, once there is room."""
        wait = 0.0
        # The first answer is wanted at once, and so is a sign of life from a pod that gave none.
        if (
            isinstance(watched.probe, Probe)
            and watched.answer
            and not watched.failures
            and self._free_holds > 0
        ):
            wait = watched.probe.wait
        if wait:
            self._free_holds -= 1
        else:
            await self._slots.acquire()
        task = asyncio.create_task(self._ask(watched, wait))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, watched: _Watched, wait: float) -> None:
        began = self._clock.monotonic()
        try:
            answer = await self._read(watched, wait)
        finally:
            if wait:
                self._free_holds += 1
            else:
                self._slots.release()
        if watched.dropped:
            return
        if answer is None and wait:
            # It may have been cut off on its way: silent is a pod that doesn't answer at once either.
            await self._slots.acquire()
            await self._ask(watched, 0.0)
            return
        if answer is None:
            watched.failures += 1
            self._metrics.probed("failed")
            if watched.failures == 1 and isinstance(watched.probe, Probe):
                self._changed(watched.key)
        else:
            self._take(watched, answer)
        if isinstance(watched.probe, Probe):
            took = self._clock.monotonic() - began
            self._schedule(watched, self._pace.after(watched.probe, watched.failures, took))
        else:
            self._schedule(watched, pause(watched.failures, watched.repeats))

    async def _read(self, watched: _Watched, wait: float) -> Answer | None:
        probe = watched.probe
        if isinstance(probe, Probe):
            tag = watched.answer.tag if watched.answer else None
            return await self._reader.read(probe, TIMEOUT + wait, wait, tag)
        if isinstance(probe, EventProbe):
            found = await self._events.read_events(probe, TIMEOUT)
        else:
            found = await self._objects.read_object(probe, TIMEOUT)
        return Answer(found) if found is not None else None

    def _take(self, watched: _Watched, answer: Answer) -> None:
        back = watched.failures > 0
        watched.failures = 0
        watched.heard = self._clock.monotonic()
        if answer.body is not None:
            watched.came = watched.heard
        before = watched.answer.body if watched.answer else None
        # An empty first answer is none: no pass need look at it.
        news = answer.body is not None and answer.body != (before or {})
        watched.repeats = 0 if news else watched.repeats + 1
        watched.answer = Answer(before if answer.body is None else answer.body, answer.tag)
        self._metrics.probed("changed" if news else "same")
        if news or back:
            self._changed(watched.key)


def _same_pod(one: Polled, other: Polled) -> bool:
    """Whether two questions are the same but for when they are asked."""
    if not (isinstance(one, Probe) and isinstance(other, Probe)):
        return False
    return replace(one, interval=other.interval, wait=other.wait) == other
