"""How many requests wait and run, at any moment and over the windows that the operator scales by."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable

from modelyard.contract.gateway import GatewayReport, WindowReport
from modelyard.contract.load import LoadMeter, Window

# The windows hear of a busy gateway's changes together, as their mean over this time (seconds).
_TOGETHER = 0.01


class Load:
    """Requests that wait for a server (`queued`) and that have one (`running`). `begins` is called for the first after
    there were none.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, begins: Callable[[], object] = lambda: None
    ) -> None:
        self._begins = begins
        self.queued = self.running = 0
        self._clock = clock
        now = clock()
        self._meter = LoadMeter(now)
        self._at = self._told = now
        self._queued_area = self._running_area = 0.0  # request seconds since `_told`
        self._arrived = self._finished = 0

    def move(self, now: float, queued: int, running: int, arrived: int = 0, finished: int = 0) -> None:
        """So many more are queued and running from `now` on (monotonic seconds); fewer where negative."""
        if now - self._told > _TOGETHER:
            self._tell()
        passed = now - self._at
        self._queued_area += self.queued * passed
        self._running_area += self.running * passed
        self._at = now
        if arrived and not self.queued and not self.running:
            self._begins()
        self.queued += queued
        self.running += running
        self._arrived += arrived
        self._finished += finished

    def report(self, weights: dict[str, int], trouble: str | None = None) -> GatewayReport:
        """As the contract has it."""
        now = self._clock()
        self._tell()
        self.move(now, 0, 0)
        self._tell()
        report = self._meter.report(now)
        return GatewayReport(
            time=time.time(),
            queued=report.queued,
            running=report.running,
            stable=_tell_window(report.stable),
            panic=_tell_window(report.panic),
            idle_seconds=report.idle_seconds,
            covered_seconds=report.covered_seconds,
            weights=weights,
            trouble=trouble,
        )

    def _tell(self) -> None:
        """The windows hear of all until the last change; since then nothing has changed, however long that was."""
        passed = self._at - self._told
        if passed > 0:
            self._meter.average(self._queued_area / passed, self._running_area / passed)
        self._meter.update(self._at, self.queued, self.running, self._arrived, self._finished)
        self._told = self._at
        self._queued_area = self._running_area = 0.0
        self._arrived = self._finished = 0


class News:
    """What the scaler should hear of at once. A tag names the news that an answer knows of."""

    def __init__(self) -> None:
        self._boot = secrets.token_hex(4)
        self._count = 0
        self._waiting: set[asyncio.Event] = set()

    def tell(self) -> None:
        """There is something new: whoever waits is answered."""
        self._count += 1
        for event in self._waiting:
            event.set()

    def tag(self) -> str:
        """Of the answer that is given now."""
        return f'"{self._boot}.{self._count}"'

    async def wait(self, tag: str | None, seconds: float) -> bool:
        """Until there is news that the answer of this tag didn't know of, for so many seconds. Whether there is."""
        if tag is None or tag.removeprefix("W/") != self.tag():
            return True
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), seconds)
        finally:
            self._waiting.discard(event)
        return event.is_set()


def _tell_window(window: Window) -> WindowReport:
    return WindowReport(
        queued=window.queued,
        running=window.running,
        arrival_rate=window.arrival_rate,
        finish_rate=window.finish_rate,
    )
