"""Seconds per step over a recent window: right after a resume too, unlike time since the start over steps."""

from collections import deque
from typing import Deque, Optional, Tuple

WINDOW_STEPS = 64
WINDOW_SECONDS = 60.0


class Pace:
    """Observations (seconds, step) of one process. The window is WINDOW_STEPS reports or WINDOW_SECONDS.

    Wall-clock time between steps counts, evaluation and saving included: they are part of what is left, too.
    Only the time to a process' first step doesn't: it holds warm-up and an evaluation before training.
    """

    def __init__(self) -> None:
        self._seen: Deque[Tuple[float, int]] = deque()
        self._warm = False

    def add(self, seconds: float, step: int) -> None:
        """A report of a step. One before the last starts the window anew: the processes were restarted."""
        if self._seen and step < self._seen[-1][1]:
            self.reset()
        if self._seen and step == self._seen[-1][1]:
            return
        if self._seen and not self._warm:
            self._seen.clear()
            self._warm = True
        self._seen.append((seconds, step))
        while len(self._seen) > WINDOW_STEPS and seconds - self._seen[1][0] >= WINDOW_SECONDS:
            self._seen.popleft()
        if len(self._seen) > WINDOW_STEPS * WINDOW_STEPS:  # steps far shorter than a millisecond a report
            self._seen.popleft()

    def reset(self) -> None:
        """Forget: another process reports now."""
        self._seen.clear()
        self._warm = False

    @property
    def step_seconds(self) -> Optional[float]:
        """Seconds per step, or None before two steps were done."""
        if len(self._seen) < 2:
            return None
        (first_seconds, first_step), (last_seconds, last_step) = self._seen[0], self._seen[-1]
        return (last_seconds - first_seconds) / (last_step - first_step)
