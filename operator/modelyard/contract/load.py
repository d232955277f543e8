"""How much work a deployment has: a gateway measures it, the operator scales by it. Standard library only.

Work is requests, queued (accepted, with no server yet) and running (at a server). Rates and means are over two
windows, as Knative's autoscaler has them: a stable one, and a panic one for what can't wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

STABLE_SECONDS = 60.0
PANIC_SECONDS = 6.0
# A binary fraction, so that no bucket's edge is rounded.
BUCKET_SECONDS = 0.125
_BUCKETS = int(STABLE_SECONDS / BUCKET_SECONDS) + 1


@dataclass(frozen=True, slots=True)
class Window:
    """What was in one window. `queued` and `running` are means over time, in requests; the rates are per second."""

    queued: float = 0.0
    running: float = 0.0
    arrival_rate: float = 0.0
    finish_rate: float = 0.0

    @property
    def work(self) -> float:
        """Queued and running requests, on average."""
        return self.queued + self.running


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What one gateway tells of one deployment.

    idle_seconds: since the last request ended, or since the gateway began; 0 while there is work.
    covered_seconds: how much of the stable window the gateway has seen, 60 at most.
    """

    queued: int
    running: int
    stable: Window
    panic: Window
    idle_seconds: float
    covered_seconds: float


class LoadMeter:
    """Means over time of two step functions and counts of two kinds of events, in 481 buckets whatever the traffic.

    A window begins at a bucket's edge, 0 to 0.125 s before its nominal begin, and over that span means and rates are
    exact. A gateway that is younger than a window tells the mean since its begin.

    `now` is seconds of any clock; a monotonic one is best. A clock that is set back counts as one that stood still
    for that moment; one that leaps ahead fills the windows with what was true before the leap.
    """

    def __init__(self, now: float) -> None:
        self._clock = _finite(now)
        self._age = 0.0  # seconds since the begin, by a clock that never goes back
        self._queued: float = 0
        self._running: float = 0
        self._busy_at = 0.0  # the age at which there was work last
        self._bucket = [-1] * _BUCKETS  # which bucket of all times stands in this place of the ring
        # In request seconds, and in requests.
        self._queued_sum = [0.0] * _BUCKETS
        self._running_sum = [0.0] * _BUCKETS
        self._arrived = [0] * _BUCKETS
        self._finished = [0] * _BUCKETS

    def update(self, now: float, queued: int, running: int, arrived: int = 0, finished: int = 0) -> None:
        """From `now` on so many requests are queued and running; so many arrived and ended since the last update.

        Only requests that a server has answered count as finished. Raises ValueError for what can't be a number of
        requests, or a time.
        """
        if min(queued, running, arrived, finished) < 0:
            raise ValueError(f"numbers of requests below 0: {queued}, {running}, {arrived}, {finished}")
        self._advance(now)
        place = self._place(int(self._age / BUCKET_SECONDS))
        self._arrived[place] += arrived
        self._finished[place] += finished
        if self._queued or self._running or arrived or finished or queued or running:
            self._busy_at = self._age
        self._queued, self._running = queued, running

    def average(self, queued: float, running: float) -> None:
        """Since the last update so many were queued and running on average, whatever that update said.

        For who can't afford an update with each request: between two of them means are as exact as the bucket's edge.
        """
        self._queued, self._running = queued, running

    def report(self, now: float) -> LoadReport:
        """What the gateway tells at this moment."""
        self._advance(now)
        busy = self._queued or self._running
        return LoadReport(
            queued=round(self._queued),
            running=round(self._running),
            stable=self._window(STABLE_SECONDS),
            panic=self._window(PANIC_SECONDS),
            idle_seconds=0.0 if busy else self._age - self._busy_at,
            covered_seconds=min(self._age, STABLE_SECONDS),
        )

    def _advance(self, now: float) -> None:
        """Adds what was queued and running until now. At most one round of the ring, however long that was."""
        passed = _finite(now) - self._clock
        self._clock = now
        if passed <= 0:
            return
        end = self._age + passed
        begin = max(self._age, (int(end / BUCKET_SECONDS) - _BUCKETS + 1) * BUCKET_SECONDS)
        bucket = int(begin / BUCKET_SECONDS)
        while begin < end:
            edge = min((bucket + 1) * BUCKET_SECONDS, end)
            place = self._place(bucket)
            self._queued_sum[place] += self._queued * (edge - begin)
            self._running_sum[place] += self._running * (edge - begin)
            begin = edge
            bucket += 1
        self._age = end

    def _place(self, bucket: int) -> int:
        """Where this bucket stands in the ring, emptied if an older one stood there."""
        place = bucket % _BUCKETS
        if self._bucket[place] != bucket:
            self._bucket[place] = bucket
            self._queued_sum[place] = self._running_sum[place] = 0.0
            self._arrived[place] = self._finished[place] = 0
        return place

    def _window(self, seconds: float) -> Window:
        last = int(self._age / BUCKET_SECONDS)
        first = max(0, last - int(seconds / BUCKET_SECONDS))
        length = self._age - first * BUCKET_SECONDS
        if length <= 0:
            return Window(queued=float(self._queued), running=float(self._running))
        places = [b % _BUCKETS for b in range(first, last + 1) if self._bucket[b % _BUCKETS] == b]
        return Window(
            queued=math.fsum(self._queued_sum[p] for p in places) / length,
            running=math.fsum(self._running_sum[p] for p in places) / length,
            arrival_rate=sum(self._arrived[p] for p in places) / length,
            finish_rate=sum(self._finished[p] for p in places) / length,
        )


def _finite(now: float) -> float:
    if not math.isfinite(now):
        raise ValueError(f"{now} is no time")
    return now
