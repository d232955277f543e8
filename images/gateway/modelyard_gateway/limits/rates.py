"""A token bucket for each caller."""

from __future__ import annotations

import math
import socket
from collections import OrderedDict

from modelyard.contract.gateway import RateLimitConfig

CALLERS = (
    10_000  # buckets; the caller who was silent for longest loses its own, which is full by then, or nearly
)


class Rates:
    """Buckets: tokens, and the time (monotonic seconds) at which they were so many. Who was seen last is at the end."""

    def __init__(self, config: RateLimitConfig) -> None:
        self._config = config
        self._buckets: OrderedDict[str | bytes, tuple[float, float]] = OrderedDict()

    def take(self, name: str | None, address: str, now: float) -> int:
        """0 where the caller may ask; else the seconds after which it may. name: of its key, if it has one."""
        caller = name if name is not None and self._config.per == "key" else _find_site(address)
        rate, burst = self._config.requests_per_second, self._config.burst
        tokens, since = self._buckets.pop(caller, (float(burst), now))
        tokens = min(burst, tokens + (now - since) * rate)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - tokens) / rate))


def _find_site(address: str) -> str | bytes:
    """Of IPv6 the first 64 bits: who has one address there has all of them."""
    if ":" not in address:
        return address
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8]
