"""A queue before so many slots, worked out request by request."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def replay(arrivals: Sequence[tuple[float, float]], slots: int) -> list[float]:
    """Seconds that each request waits."""
    free = [0.0] * slots
    waits = []
    for at, service in arrivals:
        begin = max(at, heapq.heappop(free))
        heapq.heappush(free, begin + service)
        waits.append(begin - at)
    return waits


def mean_wait(waits: Sequence[float]) -> float:
    """Seconds."""
    return sum(waits) / len(waits)
