"""A timer that is exact to some ten microseconds: event loops round theirs up to whole milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from types import TracebackType
from typing import Self

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1  # <time.h>, <sys/timerfd.h>
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
# os.timerfd_create is there from Python 3.13 on.
_libc = ctypes.CDLL(None, use_errno=True)


class _Times(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Timer:
    """For one task of a loop, within `with`."""

    def __enter__(self) -> Self:
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._loop.add_reader(self._fd, self._fire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def wait_until(self, when: float) -> None:
        """Until this monotonic time (seconds); returns at once when it has passed, having let other tasks run."""
        if when <= time.monotonic():
            await asyncio.sleep(0)
            return
        self._waiter = self._loop.create_future()
        nanoseconds = max(1, int(when * 1e9))
        spec = _Times(0, 0, *divmod(nanoseconds, 10**9))
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await self._waiter

    def _fire(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
