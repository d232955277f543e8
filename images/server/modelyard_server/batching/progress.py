"""Whether a model that computes still gets on, or hangs: in a kernel, a lock, or on a device that has gone."""

from __future__ import annotations

import time
from collections.abc import Callable

# A computation may take the longer of these two. Both are generous: a server that is ended while it is merely slow
# loses what it has computed, and the next one is as slow.
PATIENCE = 300.0  # seconds
FACTOR = 10.0  # times what as many tokens have taken at worst


class Progress:
    """What one thread computes at a time. Its own thread begins and ends; any may ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: tuple[float, int] | None = None  # since when, and of how many tokens
        self._slowest = 0.0  # seconds a token
        self._hang: str | None = None

    def begin(self, tokens: int) -> None:
        """Something of so many tokens is computed from now on, in place of what was before."""
        self._running = self._clock(), max(1, tokens)

    def end(self) -> None:
        """It is done. Of what ends though it has not begun nothing is noted."""
        if self._running is not None:
            began, tokens = self._running
            self._slowest = max(self._slowest, (self._clock() - began) / tokens)
            self._running = None

    def explain_hang(self) -> str | None:
        """In one sentence what it hangs at; None where it does not. What was told once is told for good."""
        running = self._running
        if self._hang is None and running is not None:
            began, tokens = running
            age, most = self._clock() - began, max(PATIENCE, FACTOR * self._slowest * tokens)
            if age > most:
                told = f"it has computed {tokens} tokens for {age:.0f} s, and may take {most:.0f} s"
                self._hang = f"the model hangs: {told}"
        return self._hang
