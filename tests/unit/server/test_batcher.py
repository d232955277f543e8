"""The batcher on a model that answers when the test lets it: what is in a batch, who waits, who goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelyard_server.batching.batcher import Batcher, Closed, Full, Limits

HOUR = 3600.0


class Model:
    """Answers each row with the row itself, a batch at a time, once `let` was called for it."""

    def __init__(self, *, free: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.bad: set[str] = set()
        self.threads: set[int] = set()
        self._free = free
        self._gate = threading.Semaphore(0)

    def __call__(self, rows: Sequence[str]) -> list[str]:
        self.batches.append(list(rows))
        self.threads.add(threading.get_ident())
        if not self._free:
            self._gate.acquire()
        if self.bad & set(rows):
            raise ValueError(f"bad: {sorted(self.bad & set(rows))}")
        return [f"<{row}>" for row in rows]

    def let(self, times: int = 1) -> None:
        self._gate.release(times)


class Counts:
    """An observer."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.waits = 0

    def see_batch(self, rows: int, tokens: int, width: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append((rows, tokens, width))

    def see_wait(self, seconds: float) -> None:
        assert seconds >= 0
        self.waits += 1


class Bench:
    """A batcher whose rows are as long as their text."""

    def __init__(self, model: Model, **limits: Any) -> None:
        self.model, self.counts = model, Counts()
        self.executor = ThreadPoolExecutor(1)
        given: dict[str, Any] = {"tokens": 100, "delay": 0.0, "queue": 100, "queue_tokens": 10_000}
        self.batcher: Batcher[str, str] = Batcher(
            model, len, Limits(**given | limits), self.executor, self.counts
        )

    def ask(self, *rows: str) -> asyncio.Task[list[str]]:
        return asyncio.get_running_loop().create_task(self.batcher.answer(rows))

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)

    async def begun(self, batches: int) -> None:
        await self.until(lambda: len(self.model.batches) == batches)


def run(model: Model, test: Callable[[Bench], Coroutine[Any, Any, None]], **limits: Any) -> Bench:
    """The test on a working batcher. It ends in 30 s or not at all."""

    async def whole() -> Bench:
        bench = Bench(model, **limits)
        bench.batcher.start()
        try:
            async with asyncio.timeout(30):
                await test(bench)
        finally:
            model.let(1000)
            await bench.batcher.close()
            bench.executor.shutdown()
        return bench

    return asyncio.run(whole())


def test_a_row_that_comes_to_an_idle_model_never_waits() -> None:
    async def test(bench: Bench) -> None:
        for row in ("a", "b", "c"):
            assert await bench.ask(row) == [f"<{row}>"]

    bench = run(Model(free=True), test, delay=HOUR)
    assert bench.model.batches == [["a"], ["b"], ["c"]]


def test_rows_that_come_meanwhile_make_one_batch_by_length_and_each_gets_its_own_answer() -> None:
    async def test(bench: Bench) -> None:
        first = bench.ask("x")
        await bench.begun(1)
        asked = [bench.ask(row) for row in ("dddd", "b", "ccc")]
        await bench.until(lambda: bench.batcher.waiting == 3)
        bench.model.let(2)
        assert await first == ["<x>"]
        assert [await task for task in asked] == [["<dddd>"], ["<b>"], ["<ccc>"]]

    bench = run(Model(), test)
    assert bench.model.batches == [["x"], ["b", "ccc", "dddd"]]
    assert bench.counts.batches == [(1, 1, 1), (3, 8, 4)]
    assert bench.counts.waits == 4
    assert len(bench.model.threads) == 1


def test_a_batch_that_is_not_full_is_held_for_company_and_goes_when_full() -> None:
    async def test(bench: Bench) -> None:
        first = bench.ask("x")
        await bench.begun(1)
        early = bench.ask("a" * 50)
        await bench.until(lambda: bench.batcher.waiting == 1)
        bench.model.let(2)
        await first
        for _ in range(20):
            await asyncio.sleep(0)
        assert bench.batcher.waiting == 1
        late = bench.ask("b" * 50)
        await asyncio.gather(early, late)

    assert run(Model(), test, delay=HOUR).model.batches[1:] == [["a" * 50, "b" * 50]]


def test_a_held_batch_goes_when_its_oldest_row_has_waited_long_enough() -> None:
    async def test(bench: Bench) -> None:
        first = bench.ask("x")
        await bench.begun(1)
        second = bench.ask("a")
        await bench.until(lambda: bench.batcher.waiting == 1)
        bench.model.let(2)
        await asyncio.gather(first, second)

    assert run(Model(), test, delay=0.02).model.batches == [["x"], ["a"]]


def test_the_rows_of_a_request_are_answered_in_order_over_several_batches() -> None:
    rows = [chr(97 + i) * (1 + (7 * i) % 40) for i in range(20)]

    async def test(bench: Bench) -> None:
        assert await bench.ask(*rows) == [f"<{row}>" for row in rows]
        assert await bench.ask() == []
        assert (bench.batcher.waiting, bench.batcher.running) == (0, 0)

    assert len(run(Model(free=True), test).model.batches) > 3


def test_a_caller_that_goes_away_leaves_the_queue() -> None:
    async def test(bench: Bench) -> None:
        first = bench.ask("x")
        await bench.begun(1)
        gone, stays = bench.ask("gone", "gone too"), bench.ask("stays")
        await bench.until(lambda: bench.batcher.waiting == 2)
        gone.cancel()
        await bench.until(lambda: bench.batcher.waiting == 1)
        bench.model.let(2)
        await asyncio.gather(first, stays)
        assert gone.cancelled()

    assert run(Model(), test).model.batches == [["x"], ["stays"]]


def test_a_caller_that_goes_away_from_a_running_batch_frees_its_place_and_harms_nobody() -> None:
    async def test(bench: Bench) -> None:
        first = bench.ask("x")
        await bench.begun(1)
        gone, stays = bench.ask("gone"), bench.ask("stay")
        await bench.until(lambda: bench.batcher.waiting == 2)
        bench.model.let()
        await bench.begun(2)
        gone.cancel()
        await bench.until(lambda: bench.batcher.running == 1)
        bench.model.let()
        assert await first == ["<x>"]
        assert await stays == ["<stay>"]
        assert (bench.batcher.waiting, bench.batcher.running) == (0, 0)

    run(Model(), test)


def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room() -> None:
    async def test(bench: Bench) -> None:
        first = bench.ask("x")
        await bench.begun(1)
        waiting = [bench.ask(row) for row in ("a", "b")]
        await bench.until(lambda: bench.batcher.waiting == 2)
        with pytest.raises(Full):
            await bench.batcher.answer(["c"])
        bench.model.let(3)
        await asyncio.gather(first, *waiting)
        assert await bench.ask("c") == ["<c>"]

    run(Model(), test, queue=2)


def test_the_queue_is_bounded_by_tokens_too_but_one_large_request_is_answered_and_small_ones_beside_it() -> (
    None
):
    async def test(bench: Bench) -> None:
        large = bench.ask(*["a" * 90] * 5)
        await bench.begun(1)
        with pytest.raises(Full):
            await bench.batcher.answer(["b" * 90] * 2)
        small = [bench.ask("c" * 50) for _ in range(4)]  # of the large one 50 are counted, as of each of them
        await bench.until(lambda: bench.batcher.waiting == 5)
        with pytest.raises(Full):
            await bench.batcher.answer(["d" * 60])
        bench.model.let(20)
        assert len(await large) == 5
        assert len(await asyncio.gather(*small)) == 4

    run(Model(), test, queue_tokens=300)


def test_a_large_request_is_passed_by_those_that_come_later_and_passes_none() -> None:
    async def test(bench: Bench) -> None:
        first = bench.ask("x" * 100)
        await bench.begun(1)
        asked = [bench.ask(*[name * 100] * rows) for name, rows in (("a", 5), ("b", 1), ("c", 3), ("d", 1))]
        await bench.until(lambda: bench.batcher.waiting == 4)
        bench.model.let(3)
        await bench.begun(4)  # x, a, a, b
        asked.append(bench.ask("e" * 100))
        await bench.until(lambda: bench.batcher.waiting == 4)
        bench.model.let(100)
        await asyncio.gather(first, *asked)

    batches = run(Model(), test).model.batches
    assert "".join(row[0] for batch in batches for row in batch) == "xaabacacdace"


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_a_row_is_passed_by_no_more_requests_than_rows_of_its_own_stand_before_it(sizes: list[int]) -> None:
    async def test(bench: Bench) -> None:
        first = bench.ask("x" * 100)
        await bench.begun(1)
        tasks = [bench.ask(*[f"{n:02}".ljust(100)] * size) for n, size in enumerate(sizes)]
        await asyncio.sleep(0)
        bench.model.let(1000)
        await asyncio.gather(first, *tasks)

    rows = [int(batch[0][:2]) for batch in run(Model(), test, queue_tokens=10**6).model.batches[1:]]
    seen = [0] * len(sizes)
    for place, request in enumerate(rows):
        assert len({other for other in rows[:place] if other > request}) <= seen[request]
        seen[request] += 1
    assert seen == sizes


def test_a_row_that_a_batch_fails_for_takes_no_other_with_it() -> None:
    model = Model(free=True)
    model.bad = {"bad"}

    async def test(bench: Bench) -> None:
        results = await asyncio.gather(*map(bench.ask, ("a", "bad", "c")), return_exceptions=True)
        assert results[0] == ["<a>"]
        assert isinstance(results[1], ValueError)
        assert results[2] == ["<c>"]
        assert await bench.ask("d") == ["<d>"]
        assert (bench.batcher.waiting, bench.batcher.running) == (0, 0)

    run(model, test)


def test_too_few_answers_are_an_error_and_no_silence() -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(RuntimeError, match="0 answers to 1 rows"):
            await bench.ask("a")

    class Short(Model):
        def __call__(self, rows: Sequence[str]) -> list[str]:
            return []

    run(Short(free=True), test)


def test_those_who_wait_and_those_who_run_are_told_when_it_closes() -> None:
    async def test(bench: Bench) -> None:
        running = bench.ask("x")
        await bench.begun(1)
        waiting = bench.ask("a")
        await bench.until(lambda: bench.batcher.waiting == 1)
        closing = asyncio.create_task(bench.batcher.close())
        for task in (running, waiting):
            with pytest.raises(Closed):
                await task
        bench.model.let()
        await closing
        assert not bench.batcher.alive
        with pytest.raises(Closed):
            await bench.batcher.answer(["b"])

    run(Model(), test)


requests = st.lists(st.lists(st.text("abc", min_size=1, max_size=40), max_size=5), max_size=12)


@settings(deadline=None, max_examples=40)
@given(requests, st.sets(st.integers(0, 11)), st.sampled_from([0.0, 0.001]))
def test_whatever_comes_and_goes_each_answer_is_its_own_and_nothing_is_left(
    asked: list[list[str]], gone: set[int], delay: float
) -> None:
    async def test(bench: Bench) -> None:
        tasks = [bench.ask(*rows) for rows in asked]
        await asyncio.sleep(0)
        for index in gone:
            if index < len(tasks):
                tasks[index].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for rows, result in zip(asked, results, strict=True):
            assert isinstance(result, asyncio.CancelledError) or result == [f"<{row}>" for row in rows]
        await asyncio.sleep(0)
        assert (bench.batcher.waiting, bench.batcher.running) == (0, 0)

    bench = run(Model(free=True), test, delay=delay)
    assert all(max(map(len, batch)) * len(batch) <= 100 for batch in bench.model.batches)
