"""A constant load while a test does something to what is under it; at the end exact words about every failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from tests.bench.sections import Row
from tests.bench.serving.load import Open, Plan, Result, Target
from tests.bench.serving.processes import Workers
from tests.bench.serving.protocols import Case, Speaks
from tests.bench.serving.summary import percentiles


@dataclass(frozen=True)
class Report:
    """What became of a load: how many requests were sent, how many of them failed, the first failures in words (when,
    counted from the begin, and the time of day), latencies of right answers in milliseconds, and how late the latest
    request was sent (milliseconds): no test of a server holds if the load itself stood still."""

    sent: int
    failed: int
    failures: tuple[str, ...]
    latencies: Row
    latest_ms: float
    seconds: float

    def check(self) -> None:
        """Raises AssertionError with the report unless requests were sent and none failed."""
        assert self.sent and not self.failed, str(self)

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self.latencies.items())
        figures += f"; sent {self.latest_ms} ms late at most"
        lines = [f"{self.sent} requests in {self.seconds:.1f} s, {self.failed} failed; {figures}"]
        lines += self.failures
        if self.failed > len(self.failures):
            lines.append(f"… and {self.failed - len(self.failures)} more")
        return "\n  ".join(lines)


class ConstantLoad:
    """`rate` requests/s, evenly spaced, from the first line of a `with` or `async with` to its last; then `report`.

    It runs in a process of its own. Requests that are under way at the end are waited for (`target.seconds` at most).
    With `target.reuse` connections are kept, as a client in a service does; a connection that was closed while it was
    free is no failure, one that is closed under a request is: nothing is asked twice.
    """

    def __init__(self, target: Target, protocol: Speaks, cases: Sequence[Case], rate: float) -> None:
        load = Open(rate, seconds=None, poisson=False, warm=0)
        self._workers = Workers(Plan(target, protocol, cases, load))
        self._report: Report | None = None

    @property
    def report(self) -> Report:
        """Raises RuntimeError while the load runs."""
        if self._report is None:
            raise RuntimeError("the load still runs: its report is there after the end of its `with`")
        return self._report

    def __enter__(self) -> Self:
        self._workers.__enter__()
        self._begin = self._workers.start()
        # The offset holds for this load: the clock of the day may be set meanwhile, monotonic time goes on.
        self._day = time.time() - time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is KeyboardInterrupt:
                return
            self._workers.stop()
            self._report = make_report(self._workers.collect(), self._begin, self._day)
            if error is not None:
                error.add_note(f"the load: {self._report}")
        except RuntimeError as lost:
            if error is None:
                raise
            error.add_note(f"the load: {lost}")
        finally:
            self._workers.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)


def make_report(result: Result, begin: float, day: float) -> Report:
    """`begin`: monotonic; `day`: what is added to monotonic seconds for those of the day."""
    samples = result.samples
    words = tuple(
        f"at {when - begin:.2f} s ({datetime.fromtimestamp(when + day, UTC):%H:%M:%S.%f} UTC): {kind}: {said}"
        for when, kind, said in sorted(samples.failures)
    )
    return Report(
        sent=len(samples),
        failed=sum(1 for sample in samples if sample.kind),
        failures=words,
        latencies=percentiles("ms", (sample.milliseconds for sample in samples if not sample.kind)),
        latest_ms=round(max((sample.sent - sample.intended for sample in samples), default=0.0) * 1e3, 3),
        seconds=result.window[1] - begin,
    )
