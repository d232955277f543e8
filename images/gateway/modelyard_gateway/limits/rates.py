"""A token bucket for each caller."""

from __future__ import annotations

import math
from collections import OrderedDict

from modelyard.contract.gateway import RateLimitConfig

CALLERS = (
    10_000  # buckets; the caller who was silent for longest loses its own, which is full by then, or nearly
)


class Rates:
    """Buckets: tokens, and the time (monotonic seconds) at which they were so many. Who was seen last is at the end."""

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, now: float) -> int:
        """0 where the caller may ask; else the seconds after which it may."""
        rate, burst = self._config.requests_per_second, self._config.burst
        tokens, since = self._buckets.pop(caller, (float(burst), now))
        tokens = min(burst, tokens + (now - since) * rate)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - tokens) / rate))
