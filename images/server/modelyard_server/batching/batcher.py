"""Answers rows in batches: as soon as the model is free, and not before a batch is worth it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from modelyard_server.batching.line import Entry, Line
from modelyard_server.batching.progress import Progress

Row = TypeVar("Row")
Answer = TypeVar("Answer")


class Full(Exception):  # noqa: N818 - a state, not a mistake
    """As many requests wait as may, or so many tokens that there is no room for the request's."""


class Closed(Exception):  # noqa: N818 - a state, not a mistake
    """The batcher has ended, and with it what waited."""


class Observer(Protocol):
    """Who counts."""

    def see_batch(self, rows: int, tokens: int, width: int, seconds: float) -> None:
        """A batch was computed: its rows, their tokens, the tokens of the longest, and the time that it took."""

    def see_wait(self, seconds: float) -> None:
        """A request has waited so long until its last row was taken."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`tokens` of a batch with its padding; `delay` in seconds (see Batcher); `queue` requests that may wait.

    `queue_tokens` bounds what they hold (see Batcher). Without `padding` rows of a batch have one length.
    """

    tokens: int
    delay: float
    queue: int
    queue_tokens: int
    padding: bool = True


@dataclass(slots=True, eq=False)
class _Request(Generic[Row, Answer]):
    future: asyncio.Future[None]
    arrived: float
    answers: list[Answer | None]
    entries: list[Entry[tuple[_Request[Row, Answer], int, Row]]] = field(default_factory=list)
    waiting: int = 0  # rows that no batch has taken
    tokens: int = 0  # of these
    open: int = 0  # rows without an answer


# The row, whose it is, and which of its request's.
_Item = tuple[_Request[Row, Answer], int, Row]
_Entry = Entry[_Item[Row, Answer]]


class Batcher(Generic[Row, Answer]):
    """`compute` answers a batch, in its order, on the one thread of `executor`; `measure` gives a row's tokens.

    A row that comes while the model is idle is computed at once. Rows that come while it is busy wait until it is
    free; then a batch that isn't full is held until the oldest row has waited `limits.delay` in all.

    A large request takes nobody's place. Its rows have their turns as if each had come with the next request: the n-th
    row is passed by n requests at most, and passes none that came before. And of each request that waits no more tokens
    are counted than a new one brings, so that only those are refused for `limits.queue_tokens` that are large too.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Row]], Sequence[Answer]],
        measure: Callable[[Row], int],
        limits: Limits,
        executor: Executor,
        observer: Observer,
    ) -> None:
        self._compute, self._measure, self._limits = compute, measure, limits
        self._executor, self._observer = executor, observer
        self._line: Line[_Item[Row, Answer]] = Line(limits.tokens, padding=limits.padding)
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._taken: Sequence[_Entry[Row, Answer]] = ()
        self.progress = Progress()
        self._waiting: set[_Request[Row, Answer]] = set()
        self._turn = 0  # of the next request's first row
        self.running = 0  # requests all of whose rows are taken, and not all answered

    def start(self) -> None:
        """Begins to work. To be called on the event loop."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    @property
    def waiting(self) -> int:
        """Requests of which a row waits."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether it works."""
        return self._worker is not None and not self._worker.done()

    async def answer(self, rows: Sequence[Row]) -> list[Answer]:
        """The answers to all rows, in their order.

        A caller that is cancelled takes with it what no batch has taken yet. Raises Full, Closed, and what `compute`
        raises for one of the rows.
        """
        if not self.alive:
            raise Closed
        if not rows:
            return []
        lengths = [self._measure(row) for row in rows]
        tokens = sum(lengths)
        if not self._has_room(tokens):
            raise Full
        future = asyncio.get_running_loop().create_future()
        request: _Request[Row, Answer] = _Request(future, time.perf_counter(), [None] * len(rows))
        request.waiting = request.open = len(rows)
        request.tokens = tokens
        self._waiting.add(request)
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            request.entries.append(self._line.add((request, index, row), length, self._turn + index))
        self._turn += 1
        self._changed.set()
        try:
            await future
        finally:
            self._leave(request)
        return request.answers  # type: ignore[return-value]  # each row has its answer by now

    def _has_room(self, tokens: int) -> bool:
        """Whether a request of so many may wait. One alone is never too large: else it could not be answered at all."""
        if not self._waiting:
            return True
        counted = sum(min(request.tokens, tokens) for request in self._waiting)
        return self.waiting < self._limits.queue and counted + tokens <= self._limits.queue_tokens

    def abandon(self) -> None:
        """Gives up what is computed and what waits: those who asked get Closed. The thread may never come back."""
        if self._worker is not None:
            self._worker.cancel()

    async def close(self) -> None:
        """Ends it; those who wait get Closed."""
        self.abandon()
        if self._worker is not None:
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        try:
            while True:
                self._changed.clear()
                if not len(self._line):
                    await self._changed.wait()
                else:
                    await self._hold()
                if len(self._line):
                    await self._run(self._line.take())
        finally:
            for entry in [*self._taken, *self._line]:
                self._fail(entry.item[0], Closed())

    async def _hold(self) -> None:
        """Waits until a batch is full, or its oldest row has waited long enough."""
        while len(self._line) and not self._line.is_full:
            oldest = next(iter(self._line)).item[0]
            left = oldest.arrived + self._limits.delay - time.perf_counter()
            if left <= 0:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _run(self, batch: Sequence[_Entry[Row, Answer]]) -> None:
        self._taken = batch
        now = time.perf_counter()
        for entry in batch:
            request = entry.item[0]
            request.waiting -= 1
            request.tokens -= entry.length
            if not request.waiting:
                self._waiting.remove(request)
                self.running += 1
                self._observer.see_wait(now - request.arrived)
        try:
            answers = await self._call(batch)
        except Exception as error:
            if len(batch) == 1:
                self._fail(batch[0].item[0], error)
            else:
                await self._run_singly(batch)
            return
        self._give(batch, answers)

    async def _run_singly(self, batch: Sequence[_Entry[Row, Answer]]) -> None:
        """Finds the row that a batch failed for, so that the others get their answers."""
        for entry in batch:
            request = entry.item[0]
            if request.future.done():
                continue
            try:
                self._give([entry], await self._call([entry]))
            except Exception as error:
                self._fail(request, error)

    async def _call(self, batch: Sequence[_Entry[Row, Answer]]) -> Sequence[Answer]:
        rows = [entry.item[2] for entry in batch]
        lengths = [entry.length for entry in batch]
        loop = asyncio.get_running_loop()
        self.progress.begin(len(rows) * max(lengths))
        try:
            answers, seconds = await loop.run_in_executor(self._executor, self._compute_timed, rows)
        finally:
            self.progress.end()
        if len(answers) != len(rows):
            raise RuntimeError(f"{len(answers)} answers to {len(rows)} rows")
        self._observer.see_batch(len(rows), sum(lengths), max(lengths), seconds)
        return answers

    def _compute_timed(self, rows: Sequence[Row]) -> tuple[Sequence[Answer], float]:
        started = time.perf_counter()
        answers = self._compute(rows)
        return answers, time.perf_counter() - started

    def _give(self, batch: Sequence[_Entry[Row, Answer]], answers: Sequence[Answer]) -> None:
        for entry, answer in zip(batch, answers, strict=True):
            request, index, _ = entry.item
            request.answers[index] = answer
            request.open -= 1
            if not request.open and not request.future.done():
                request.future.set_result(None)

    def _fail(self, request: _Request[Row, Answer], error: BaseException) -> None:
        if not request.future.done():
            request.future.set_exception(error)

    def _leave(self, request: _Request[Row, Answer]) -> None:
        """Counts a request out, with what of it still waits."""
        if request.waiting:
            self._waiting.remove(request)
            for entry in request.entries:
                self._line.remove(entry)
            request.waiting = 0
            self._changed.set()
        else:
            self.running -= 1
