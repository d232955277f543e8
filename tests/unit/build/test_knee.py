"""Where more requests at once bring no more answers."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from modelyard_build.measuring import knee as knee_module
from modelyard_build.measuring.knee import PATIENCE, STEPS, Knee, climb, count_rate, find_knee, measure_rate


@pytest.mark.parametrize(
    ("rates", "knee"),
    [
        ({1: 100.0}, Knee(1, 100.0)),
        ({1: 100.0, 4: 104.0, 8: 103.0}, Knee(1, 100.0)),
        ({1: 100.0, 4: 105.0, 8: 105.0}, Knee(1, 100.0)),  # a gain of exactly 5 % is within it
        ({1: 100.0, 4: 106.0, 8: 90.0}, Knee(4, 106.0)),
        ({1: 50.0, 4: 55.0, 8: 100.0, 16: 180.0, 32: 200.0, 64: 205.0}, Knee(32, 200.0)),
    ],
)
def test_the_knee_is_the_fewest_callers_near_the_highest_rate(rates: dict[int, float], knee: Knee) -> None:
    assert find_knee(rates) == knee


def climbed(rates: dict[int, float]) -> tuple[Knee, list[int]]:
    asked: list[int] = []

    async def measure(callers: int) -> float:
        asked.append(callers)
        return rates[callers]

    return asyncio.run(climb(measure)), asked


def test_one_step_without_gain_may_be_chance_and_two_end_the_climb() -> None:
    flat = dict.fromkeys(STEPS, 1000.0)
    assert climbed(flat) == (Knee(1, 1000.0), [1, 4, 8])
    late = flat | {8: 1500.0, 16: 1501.0, 32: 1600.0, 64: 1601.0, 128: 1602.0}
    assert climbed(late) == (Knee(32, 1600.0), [1, 4, 8, 16, 32, 64, 128])


def test_nobody_is_made_to_wait_longer_than_patience() -> None:
    # Of 2 answers a second 8 callers have one each in 4 s; 16 would take 8.
    assert climbed({1: 1.0, 4: 2.0, 8: 2.0, 16: 9.0}) == (Knee(4, 2.0), [1, 4, 8])
    assert climbed({1: 1.0, 4: 1.99, 8: 9.0}) == (Knee(4, 1.99), [1, 4])
    assert climbed({1: 0.99, 4: 9.0}) == (Knee(1, 0.99), [1])


def test_answers_that_come_together_are_counted_or_not_together() -> None:
    # Batches of 4 each second, for 4 callers; what the last calls bring is cut off with its batch's other answers.
    times = [second + place * 1e-4 for second in range(1, 8) for place in range(4)]
    assert count_rate(times, 4, begun=0.0) == pytest.approx(4.0, rel=1e-3)
    # The first answers are slow: what each caller waited for its first one is not counted.
    slow = [9.0, 9.5, *(10 + 0.1 * number for number in range(1, 101))]
    assert count_rate(slow, 3, begun=0.0) == pytest.approx(10.0, rel=0.01)
    alone = [0.1 * number for number in range(1, 101)]
    assert count_rate(alone, 1, begun=0.0) == pytest.approx(10.0)
    # A batch whose answers are told one after the other, which takes longer than a fast model's batch.
    told = [2.0 * second + place * 3e-4 for second in range(1, 6) for place in range(64)]
    assert count_rate(told, 64, begun=0.0) == pytest.approx(32.0, rel=0.011)


def test_answers_too_few_for_a_window_are_counted_from_the_beginning() -> None:
    assert count_rate([2.0], 1, begun=0.0) == pytest.approx(0.5)
    assert count_rate([1.0, 2.0, 4.0], 4, begun=0.0) == pytest.approx(1.0)
    assert count_rate([5.0] * 8, 8, begun=0.0) == pytest.approx(1.6)


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: time is what the loop says."""

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "all wait for each other"
        self.now = getattr(self, "now", 0.0) + max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """Its time passes at once."""

    def __init__(self) -> None:
        self._passing = _Selector()
        super().__init__(self._passing)

    def time(self) -> float:
        return getattr(self._passing, "now", 0.0)


class Server:
    """Takes the oldest `most` of those that wait, and answers them all after `seconds(rows)`."""

    def __init__(self, most: int, seconds: Callable[[int], float]) -> None:
        self._most, self._seconds = most, seconds
        self._line: list[asyncio.Future[None]] = []
        self._working: asyncio.Task[None] | None = None

    async def ask(self, number: int) -> None:
        future = asyncio.get_running_loop().create_future()
        self._line.append(future)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        await future

    async def _work(self) -> None:
        await asyncio.sleep(0)  # those who ask at the same time are in the first batch
        while self._line:
            batch, self._line = self._line[: self._most], self._line[self._most :]
            await asyncio.sleep(self._seconds(len(batch)))
            for future in batch:
                future.set_result(None)
            await asyncio.sleep(0)  # they ask again


Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs what measures, in a time that passes at once."""
    loop = _Loop()
    monkeypatch.setattr(knee_module, "time", SimpleNamespace(perf_counter=loop.time))
    yield loop.run_until_complete
    loop.close()


@pytest.mark.parametrize("most", [1, 8, 16, 64])
@pytest.mark.parametrize("seconds", [0.004, 0.03, 0.3, 0.8, 1.7])
def test_a_server_that_answers_in_batches_is_measured_exactly(run: Run, most: int, seconds: float) -> None:
    for callers in STEPS:
        rate = min(most, callers) / seconds
        if callers <= PATIENCE * rate:  # else nobody climbs so high
            server = Server(most, lambda rows: seconds)
            assert run(measure_rate(server.ask, callers, 1.0)) == pytest.approx(rate, rel=0.01), callers


@pytest.mark.parametrize(
    ("most", "seconds", "knee"),
    [
        (16, lambda rows: 0.8, Knee(16, 20.0)),
        (64, lambda rows: 0.5 + 0.05 * rows, Knee(32, 32 / 2.1)),
        (8, lambda rows: 0.27 + 0.08 * rows, Knee(8, 8 / 0.91)),
        (64, lambda rows: 0.02 * rows, Knee(1, 50.0)),
    ],
)
def test_the_knee_of_a_server_that_answers_in_batches_is_found(
    run: Run, most: int, seconds: Callable[[int], float], knee: Knee
) -> None:
    server = Server(most, seconds)
    found = run(climb(lambda callers: measure_rate(server.ask, callers, 1.0)))
    assert (found.callers, found.rate) == (knee.callers, pytest.approx(knee.rate, rel=0.01))


def test_as_many_requests_are_under_way_as_there_are_callers() -> None:
    running, most, numbers = 0, 0, list[int]()

    async def ask(number: int) -> None:
        nonlocal running, most
        numbers.append(number)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    rate = asyncio.run(measure_rate(ask, 7, 0.05))
    assert most == 7 and running == 0 and rate > 0
    assert numbers == list(range(len(numbers))) and len(numbers) >= 4 * 7
