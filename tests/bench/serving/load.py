"""Load from this process: a closed loop of clients that wait for their answers, or arrivals that wait for nobody."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.bench.serving.protocols import Case, Speaks, Tokens
from tests.bench.serving.samples import Samples
from tests.bench.serving.timer import Timer
from tests.bench.serving.wire import SECONDS, Answer, Client, Failure, encode

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """A server by host name or address. `headers` are sent with each request; `seconds`: limit of one request;
    `reuse=False`: a connection for each request."""

    host: str
    port: int
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = SECONDS
    reuse: bool = True


@dataclass(frozen=True)
class Closed:
    """So many clients, each of which asks again when it has its answer, after a warm-up of `warm` seconds for so many
    `seconds`, or until `requests` are answered."""

    clients: int
    seconds: float | None = 10.0
    requests: int | None = None
    warm: float = 2.0


@dataclass(frozen=True)
class Open:
    """`rate` requests/s that are due whatever has become of the earlier ones: Poisson arrivals of the seed, or evenly
    spaced. `seconds` None: until told to stop. At most `most` are under way; one that can't be sent for that still
    counts from when it was due."""

    rate: float
    seconds: float | None = 10.0
    poisson: bool = True
    warm: float = 2.0
    most: int = 4000


@dataclass(frozen=True)
class Plan:
    """What to put on a server. The seed chooses the order of cases (each once before any a second time) and arrivals,
    whatever the number of processes."""

    target: Target
    protocol: Speaks
    cases: Sequence[Case]
    load: Closed | Open
    seed: int = 0


@dataclass(frozen=True)
class Own:
    """What this process had while it measured: seconds of the window, of CPU, and of waiting for a CPU."""

    seconds: float
    cpu: float
    waited: float


@dataclass
class Result:
    """`window`: the measured time (monotonic seconds), the warm-up left out; samples of the warm-up are among them."""

    window: tuple[float, float]
    samples: Samples
    own: list[Own]


def order_cases(number: int, seed: int) -> Iterator[int]:
    """Places of cases for ever: permutations, one after the other."""
    chooser = random.Random(f"cases {seed}")  # noqa: S311 - no secret
    places = list(range(number))
    while True:
        chooser.shuffle(places)
        yield from places


def arrivals(load: Open, seed: int) -> Iterator[float]:
    """Seconds from the begin at which requests are due, for ever."""
    if not load.poisson:
        yield from (index / load.rate for index in itertools.count())
    chooser = random.Random(f"arrivals {seed}")  # noqa: S311 - no secret
    due = 0.0
    while True:
        due += chooser.expovariate(load.rate)
        yield due


class Meter:
    """What this process uses from `start` to `stop` (monotonic seconds), or to the end when that is earlier."""

    def __init__(self, start: float, stop: float | None) -> None:
        loop, now = asyncio.get_running_loop(), time.monotonic()
        self._marks: list[tuple[float, float, float]] = []
        self._timers = [
            loop.call_later(max(0.0, when - now), self._mark) for when in (start, stop) if when is not None
        ]

    def end(self) -> Own:
        """All zero when the start was not reached."""
        for timer in self._timers:
            timer.cancel()
        if len(self._marks) == 1:
            self._mark()
        if not self._marks:
            return Own(0.0, 0.0, 0.0)
        return Own(*(after - before for before, after in zip(*self._marks, strict=True)))

    def _mark(self) -> None:
        self._marks.append((time.monotonic(), time.process_time(), _read_waited()))


class Generator:
    """Puts a plan's load on its server, or its share of it: process `index` of `processes`."""

    def __init__(self, plan: Plan, index: int = 0, processes: int = 1) -> None:
        if not plan.cases:
            raise ValueError("a load needs at least one case")
        self.plan, self.index, self.processes = plan, index, processes
        self.stopped = asyncio.Event()
        target = plan.target
        host = f"{target.host}:{target.port}"
        self._client = Client(target.host, target.port, target.seconds, target.reuse)
        self._requests = [
            encode(host, plan.protocol.path, _dump(plan.protocol.ask(case.input)), target.headers)
            for case in plan.cases
        ]
        self._right: list[bytes | None] = [None] * len(plan.cases)
        self._order = self._share(order_cases(len(plan.cases), plan.seed))
        self._samples = Samples()

    async def run(self, begin: float) -> Result:
        """Begins at this monotonic time, warm-up first. Returns when all that was sent has ended."""
        load = self.plan.load
        start = begin + load.warm
        limited = isinstance(load, Closed) and load.requests is not None
        stop = start + load.seconds if load.seconds is not None and not limited else None
        meter = Meter(start, stop)
        try:
            if isinstance(load, Closed):
                end = await self._closed(load, begin, start, stop)
            else:
                end = await self._open(load, begin, stop)
        finally:
            own = meter.end()
            self._client.close()
        return Result((start, end), self._samples, [own])

    async def _closed(self, load: Closed, begin: float, start: float, stop: float | None) -> float:
        left = self._share(iter(range(load.requests))) if load.requests is not None else None

        async def client() -> None:
            while not self.stopped.is_set():
                now = time.monotonic()
                if stop is not None and now >= stop:
                    return
                if left is not None and now >= start and next(left, None) is None:
                    return
                await self._ask(next(self._order))

        with Timer() as timer:
            await timer.wait_until(begin)
        async with asyncio.TaskGroup() as group:
            for _ in self._share(iter(range(load.clients))):
                group.create_task(client())
        return time.monotonic() if stop is None or self.stopped.is_set() else stop

    async def _open(self, load: Open, begin: float, stop: float | None) -> float:
        room = asyncio.Semaphore(max(1, load.most // self.processes))

        async def one(case: int, due: float) -> None:
            async with room:
                await self._ask(case, due)

        async def send(group: asyncio.TaskGroup) -> None:
            with Timer() as timer:
                for after in self._share(arrivals(load, self.plan.seed)):
                    due = begin + after
                    if stop is not None and due >= stop:
                        return
                    await timer.wait_until(due)
                    group.create_task(one(next(self._order), due))

        async with asyncio.TaskGroup() as group:
            sender = group.create_task(send(group))
            told = asyncio.create_task(self.stopped.wait())
            await asyncio.wait({sender, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            sender.cancel()
            ended = time.monotonic()
        return ended if stop is None or self.stopped.is_set() else stop

    async def _ask(self, case: int, due: float | None = None) -> None:
        sent = time.monotonic()
        due = sent if due is None else due
        try:
            answer = await self._client.ask(self._requests[case])
            if answer.status != 200:
                raise Failure("status", f"{answer.status}: {answer.body[:200].decode(errors='replace')}")
            tokens = None
            # The same bytes as before need no second judgement; streams have their times.
            if self._right[case] is None or answer.body != self._right[case]:
                tokens = self._judge(case, answer)
                if tokens is None:
                    self._right[case] = answer.body
        except Failure as failure:
            self._samples.add_failure(case, due, sent, time.monotonic(), failure)
        else:
            self._samples.add(case, due, sent, answer, tokens)

    def _judge(self, case: int, answer: Answer) -> Tokens | None:
        try:
            return self.plan.protocol.judge(self.plan.cases[case].expected, answer)
        except Failure:
            raise
        except Exception as error:
            # Whatever a server may have come up with, it is not the answer, and the load goes on.
            raise Failure("wrong", f"it can't be judged ({error!r}): {answer.body[:200]!r}") from error

    def _share(self, of_all: Iterator[T]) -> Iterator[T]:
        return itertools.islice(of_all, self.index, None, self.processes)


def _read_waited() -> float:
    """Seconds for which this process's only busy thread had to wait for a CPU."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def _dump(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
