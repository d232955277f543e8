"""A clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeTimer:
    """One planned call."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Lets it not happen."""
        self.cancelled = True


class FakeClock:
    """Implements `engine.ports.Clock`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, FakeTimer]] = []

    def now(self) -> datetime:
        """The wall clock."""
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Seconds since the test began."""
        return self.seconds

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        """Plans a call."""
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self.seconds + delay, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Moves on, making the calls that fall due on the way at their own times."""
        end = self.seconds + seconds
        while self._timers and self._timers[0][0] <= end:
            due, _, timer = heapq.heappop(self._timers)
            self.seconds = max(self.seconds, due)
            if not timer.cancelled:
                timer.callback()
        self.seconds = end

    @property
    def next_due(self) -> float | None:
        """Seconds until the next planned call."""
        alive = [due for due, _, timer in self._timers if not timer.cancelled]
        return min(alive) - self.seconds if alive else None
