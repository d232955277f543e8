"""Where more requests at once bring no more answers a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

STEPS = (1, 4, 8, 16, 32, 64, 128)  # callers, each of whom asks again as soon as it is answered
GAIN = 1.05  # less than that is no gain
PATIENCE = 4.0  # seconds
_ROUNDS = 4  # answers for each caller that a step has, at least
_LONGEST = 4.0  # as a multiple of a step's time, whether or not it has them
# A batch's answers come within so many seconds, or such a share of the time that is counted: answering a batch of slow
# requests takes longer.
_TOGETHER = 0.002
_TOGETHER_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Knee:
    """`rate` in answers a second, with `callers` at once."""

    callers: int
    rate: float


def find_knee(rates: Mapping[int, float]) -> Knee:
    """Of answers a second by callers: the fewest callers whose rate is within GAIN of the highest."""
    highest = max(rates.values())
    callers = min(n for n, rate in rates.items() if rate * GAIN >= highest)
    return Knee(callers, rates[callers])


async def climb(measure: Callable[[int], Awaitable[float]]) -> Knee:
    """Measures more and more callers, until two steps after each other have gained less than GAIN.

    Nor does it go on where each would wait longer than PATIENCE.
    """
    rates: dict[int, float] = {}
    flat = 0
    for callers in STEPS:
        highest = max(rates.values(), default=0.0)
        if rates and callers > PATIENCE * highest:
            break
        rates[callers] = await measure(callers)
        flat = 0 if rates[callers] >= GAIN * highest else flat + 1
        if flat == 2:
            break
    return find_knee(rates)


async def measure_rate(ask: Callable[[int], Awaitable[object]], callers: int, seconds: float) -> float:
    """Answers a second with so many callers. `ask` sends the n-th request and waits for its answer.

    Counted from the answer on by which each caller could have had one, to the last one of the time.
    """
    times: list[float] = []
    sent = 0
    begun = time.perf_counter()

    def is_over() -> bool:
        spent = time.perf_counter() - begun
        return spent >= seconds and (len(times) >= _ROUNDS * callers or spent >= _LONGEST * seconds)

    async def call() -> None:
        nonlocal sent
        while not is_over():
            sent += 1
            await ask(sent - 1)
            times.append(time.perf_counter())

    await asyncio.gather(*(call() for _ in range(callers)))
    return count_rate(times, callers, begun)


def count_rate(times: list[float], callers: int, begun: float) -> float:
    """Answers a second, of the times at which they came, in their order.

    Counted is from one batch's end to another's, so that whole batches are divided by the time that they took. It
    begins with the answer by which each caller could have had one, whose batch is not counted, and ends with the first
    of those after which nobody asked again, whose batch is: all callers were there when it was made. What comes later
    comes to fewer and fewer of them.
    """
    last = times[max(0, len(times) - callers)]
    begins_late = len(times) >= 2 * callers
    first = times[callers - 1] if begins_late else begun
    together = max(_TOGETHER, _TOGETHER_SHARE * (last - first))
    since = first + together if begins_late else begun
    return sum(since < t <= last + together for t in times) / (last - first)
