"""Real time, on the running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from modelyard.engine.ports import Timer


class LoopClock:
    """Implements `engine.ports.Clock`."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Calls back after `delay` seconds."""
        return asyncio.get_running_loop().call_later(max(0.0, delay), callback)
