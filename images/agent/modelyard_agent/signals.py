"""SIGTERM and SIGINT as a fact that can be waited for."""

import os
import select
import signal
from types import FrameType
from typing import Optional


class StopSignal:
    """Set once the pod is asked to stop. To be made in the main thread."""

    def __init__(self) -> None:
        self.received = False
        self._reader, writer = os.pipe()
        for descriptor in (self._reader, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until a signal comes. True if asked to stop."""
        # A Python-level Event could deadlock in a handler; the interpreter writes a byte to the pipe instead.
        ready, _, _ = select.select([self._reader], [], [], seconds)
        if ready:
            os.read(self._reader, 512)
        return self.received

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        self.received = True
