"""Where more requests at once bring no more answers."""

from __future__ import annotations

import asyncio

import pytest
from modelyard_build.measuring.knee import STEPS, Knee, climb, count_rate, find_knee, measure_rate


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
    assert count_rate(times, 4, begun=0.0) == pytest.approx(4.0, rel=0.25)
    # The first answers are slow: what each caller waited for its first one is not counted.
    slow = [9.0, 9.5, *(10 + 0.1 * number for number in range(1, 101))]
    assert count_rate(slow, 3, begun=0.0) == pytest.approx(10.0)
    alone = [0.1 * number for number in range(1, 101)]
    assert count_rate(alone, 1, begun=0.0) == pytest.approx(10.0)


def test_answers_too_few_for_a_window_are_counted_from_the_beginning() -> None:
    assert count_rate([2.0], 1, begun=0.0) == pytest.approx(0.5)
    assert count_rate([1.0, 2.0, 4.0], 4, begun=0.0) == pytest.approx(1.0)


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
