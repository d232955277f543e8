"""What arrives. Loads are in replicas at their target; requests come at random (Poisson), seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TARGET = 7.0  # requests in flight per replica: 0.7 of what it runs at once, as KPA has it
BURSTY = Path(__file__).with_name("bursty.csv")


@dataclass(frozen=True)
class Trace:
    """`rises`: (second, replicas) that the load needs from then on. `arrivals`: (second, seconds at the server)."""

    name: str
    seconds: float
    arrivals: list[tuple[float, float]]
    rises: tuple[tuple[float, int], ...] = ()
    start: int = 1  # replicas at the beginning
    counted_from: float = 0.0  # whoever has no history yet shall not be judged by that


def requests(
    load: Callable[[float], float], seconds: float, service: float, seed: int = 1
) -> list[tuple[float, float]]:
    """Requests of exponential length around `service` seconds whose load, in replicas, is `load(second)`."""
    dice = random.Random(seed)  # noqa: S311 — a simulation
    highest = max(load(t) for t in range(int(seconds) + 1)) * TARGET / service
    found, now = [], 0.0
    while highest:
        now += dice.expovariate(highest)
        if now >= seconds:
            break
        if dice.random() * highest < load(now) * TARGET / service:
            found.append((now, dice.expovariate(1 / service)))
    return found


def step(service: float = 1.0) -> Trace:
    """One replica's load, eight replicas' for six minutes, one replica's."""
    load = lambda t: 7.2 if 120 <= t < 480 else 0.8  # noqa: E731
    return Trace("step 1 to 8", 1200, requests(load, 1200, service), rises=((120.0, 8),), counted_from=100)


def half_step(service: float = 1.0) -> Trace:
    """Four replicas' load, then six replicas': not enough for panic."""
    load = lambda t: 5.4 if 120 <= t < 480 else 3.6  # noqa: E731
    return Trace(
        "step 4 to 6", 1200, requests(load, 1200, service), rises=((120.0, 6),), start=4, counted_from=100
    )


def ramp(service: float = 1.0) -> Trace:
    """Up from one to eight in five minutes, and down again."""
    load = lambda t: max(0.8, 7.2 - abs(t - 420) * 6.4 / 300)  # noqa: E731
    return Trace("ramp", 1200, requests(load, 1200, service), counted_from=100)


def bursts(service: float = 1.0, seed: int = 7) -> Trace:
    """Bursts of 5 to 40 s, four to eight replicas' load, every one or two minutes."""
    dice = random.Random(seed)  # noqa: S311
    spans, at = [], 60.0
    while at < 1100:
        spans.append((at, at + dice.uniform(5, 40), dice.uniform(4, 8)))
        at = spans[-1][1] + dice.uniform(60, 120)
    load = lambda t: next((height for a, b, height in spans if a <= t < b), 0.8)  # noqa: E731
    return Trace("bursts", 1200, requests(load, 1200, service, seed))


def noise(service: float = 1.0, level: float = 4.5, seed: int = 3) -> Trace:
    """A constant load, its rate anew each five seconds within 10 %, on top of chance."""
    dice = random.Random(seed)  # noqa: S311
    rates = [level * dice.uniform(0.9, 1.1) for _ in range(1 + 1800 // 5)]
    return Trace(
        "noise",
        1800,
        requests(lambda t: rates[int(t // 5)], 1800, service, seed),
        start=math.ceil(level),
        counted_from=240,
    )


def on_off(service: float = 1.0) -> Trace:
    """Two minutes of two replicas' load, ten minutes of nothing."""
    load = lambda t: 1.8 if t % 720 < 120 else 0.0  # noqa: E731
    return Trace("on and off", 2880, requests(load, 2880, service), start=0)


def recorded(service: float = 1.0, seed: int = 5) -> Trace:
    """The trace in the file: requests in each second. Where in it, and how long each takes, is seeded."""
    dice = random.Random(seed)  # noqa: S311
    counts = [int(line) for line in BURSTY.read_text().splitlines() if not line.startswith("#")]
    found = [
        (second + offset, dice.expovariate(1 / service))
        for second, count in enumerate(counts)
        for offset in sorted(dice.random() for _ in range(count))
    ]
    return Trace("recorded", len(counts), found)
