"""A work queue like client-go's.

Each key once, by one worker at a time, later on request, slower after failures.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from modelyard.engine.plan import Key
from modelyard.engine.ports import Clock, Timer

BASE_DELAY = 0.005
MAX_DELAY = 1000.0
# Seconds for which a deferred key lets others go before it; then it takes turns with them.
PATIENCE = 30.0


class QueueMetrics(Protocol):
    """What client-go measures of a work queue; times in seconds."""

    def added(self) -> None:
        """A key came in that was not waiting already."""

    def depth(self, waiting: int) -> None:
        """So many keys wait."""

    def started(self, waited: float) -> None:
        """A worker took a key."""

    def finished(self, worked: float) -> None:
        """The worker is done with it."""

    def retried(self) -> None:
        """A key was put back after a failure."""


class WorkQueue:
    """Keys to look at.

    `spacing` (seconds) is the least time between two passes of one key: events that come in a burst, as pods
    start, become one pass. The first pass of a quiet key is never held back.
    """

    def __init__(
        self,
        clock: Clock,
        metrics: QueueMetrics,
        *,
        spacing: float = 0.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._spacing = spacing
        self._jitter = jitter
        self._waiting: OrderedDict[Key, float] = OrderedDict()
        self._behind: OrderedDict[Key, float] = OrderedDict()
        self._deferred: set[Key] = set()
        self._quiet: set[Key] = set()  # those behind that come forward when something happens to them
        self._turn = False  # whether the last key was a deferred one
        self._working: dict[Key, float] = {}
        self._again: set[Key] = set()
        self._timers: dict[Key, tuple[float, Timer]] = {}
        self._failures: dict[Key, int] = {}
        self._last: OrderedDict[Key, float] = OrderedDict()
        self._takers: list[asyncio.Future[None]] = []
        self._closed = False

    def add(self, key: Key) -> None:
        """Puts a key in, unless it waits already."""
        if self._closed or self._has(key):
            if key in self._quiet:
                self._bring_forward(key)
            return
        if key in self._working:
            self._again.add(key)
            return
        if self._spacing and (last := self._last.get(key)) is not None:
            hold = last + self._spacing - self._clock.monotonic()
            if hold > 0:
                self.add_after(key, hold)
                return
        self._enter(key)

    def defer(self, key: Key, *, until_event: bool = False) -> None:
        """Puts a key in, behind all that are not deferred; after PATIENCE seconds in turn with them.

        With `until_event` the next `add` brings it forward; otherwise it changes nothing.
        """
        if self._has(key):
            return
        self._deferred.add(key)
        self.add(key)
        if until_event and key in self._behind:
            self._quiet.add(key)

    def add_after(self, key: Key, delay: float) -> None:
        """Puts a key in after `delay` seconds; of several wishes the earliest counts."""
        if self._closed:
            return
        if delay <= 0:
            self._enter(key)
            return
        due = self._clock.monotonic() + delay
        planned = self._timers.get(key)
        if planned is not None:
            if planned[0] <= due:
                return
            planned[1].cancel()
        self._timers[key] = (due, self._clock.call_later(delay, lambda: self._due(key)))

    def retry(self, key: Key, at_most: float = MAX_DELAY) -> float:
        """Puts a key in again after a failure.

        Each failure in a row doubles the delay. Returns it, in seconds.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # Up to a fifth is added, so that what failed together does not come back together.
        delay = min(BASE_DELAY * 2.0 ** min(failures, 30), MAX_DELAY, at_most) * (1 + 0.2 * self._jitter())
        self._metrics.retried()
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """The key did well: the next failure counts as the first."""
        self._failures.pop(key, None)

    def drop(self, key: Key) -> None:
        """The key is gone for good: nothing is remembered of it."""
        self.forget(key)
        self._deferred.discard(key)
        planned = self._timers.pop(key, None)
        if planned is not None:
            planned[1].cancel()

    async def get(self) -> Key | None:
        """The next key; None once the queue is closed. `done` must follow."""
        while not self._closed:
            if len(self):
                return self._take()
            taker = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            finally:
                if taker in self._takers:
                    self._takers.remove(taker)
        return None

    def done(self, key: Key) -> None:
        """The worker is done with the key, which may come again."""
        now = self._clock.monotonic()
        self._metrics.finished(now - self._working.pop(key))
        if self._spacing:
            self._last[key] = now
            self._last.move_to_end(key)
            while self._last and now - next(iter(self._last.values())) > self._spacing:
                self._last.popitem(last=False)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """Wakes the workers with None; what waits is dropped, as the next leader lists everything anyway."""
        self._closed = True
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._waiting.clear()
        self._behind.clear()
        self._quiet.clear()
        for taker in self._takers:
            if not taker.done():
                taker.set_result(None)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._behind)

    @property
    def crowded(self) -> bool:
        """Whether keys wait that are not deferred."""
        return bool(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nobody works."""
        return not len(self) and not self._working

    def longest_running(self) -> float:
        """Seconds that the slowest present pass has taken so far."""
        return self._clock.monotonic() - min(self._working.values()) if self._working else 0.0

    def unfinished(self) -> float:
        """Seconds that all present passes have taken so far, summed."""
        now = self._clock.monotonic()
        return sum(now - started for started in self._working.values())

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._enter(key)

    def _has(self, key: Key) -> bool:
        return key in self._waiting or key in self._behind

    def _bring_forward(self, key: Key) -> None:
        self._waiting[key] = self._behind.pop(key)
        self._quiet.discard(key)
        self._deferred.discard(key)

    def _enter(self, key: Key) -> None:
        if self._closed or self._has(key):
            return
        if key in self._working:
            self._again.add(key)
            return
        line = self._behind if key in self._deferred else self._waiting
        line[key] = self._clock.monotonic()
        self._metrics.added()
        self._metrics.depth(len(self))
        while self._takers:
            taker = self._takers.pop()
            if not taker.done():
                taker.set_result(None)
                break

    def _take(self) -> Key:
        now = self._clock.monotonic()
        overdue = bool(self._behind) and now - next(iter(self._behind.values())) >= PATIENCE
        self._turn = not self._waiting or (overdue and not self._turn)
        key, since = (self._behind if self._turn else self._waiting).popitem(last=False)
        self._deferred.discard(key)
        self._quiet.discard(key)
        self._working[key] = now
        planned = self._timers.get(key)
        if planned is not None and planned[0] <= now:
            planned[1].cancel()
            del self._timers[key]
        self._metrics.depth(len(self))
        self._metrics.started(now - since)
        return key
