"""Where a pod's time goes: each second from the agent's start in one state, as the reports tell."""

import time
from typing import Callable, Dict, Optional

STARTING = "starting"
TRAINING = "training"
DONE = "done"
# What reports don't say of themselves.
REPEATING = "repeating"  # training for steps that were done before, and lost
RESTARTING = "restarting"  # from the end of processes to the first step of those in their place


class Timesheet:
    """Seconds by state. Not thread-safe.

    `reached` is the highest step that was done before this pod's first one. Times are those at which reports come in,
    which is milliseconds after they are made.
    """

    def __init__(self, reached: int = 0, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._since = clock()
        self._reached = reached
        self._step = 0
        self._state = STARTING
        self._restarted = False
        self._seconds: Dict[str, float] = {}

    def note(self, state: str, step: Optional[int] = None) -> None:
        """A report has come: time up to now was spent in the state before, that from now on in `state`."""
        self._book(step)
        self._step = self._step if step is None else step
        self._state = state
        if state == TRAINING:
            self._restarted = False

    def restart(self) -> None:
        """Other processes have taken the place of those that reported. What those had not told of is lost."""
        self._reached = max(self._reached, self._step)
        self._restarted = True
        self._book()

    def read(self) -> Dict[str, float]:
        """Seconds by state, up to now."""
        self._book()
        return dict(self._seconds)

    def _book(self, step: Optional[int] = None) -> None:
        """`step` is the last that was done in the time booked; None: it is not over."""
        now = self._clock()
        spent, self._since = now - self._since, now
        state = self._state
        if self._restarted:
            state = RESTARTING
        elif state == TRAINING and (self._step + 1 if step is None else step) <= self._reached:
            state = REPEATING
        if state != DONE and spent > 0:
            self._seconds[state] = self._seconds.get(state, 0.0) + spent
