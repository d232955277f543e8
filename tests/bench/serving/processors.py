"""Which processor is whose: the server that is measured has one for itself, and its callers another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_ALL = sorted(os.sched_getaffinity(0))
SERVER, CALLERS = _ALL[0], _ALL[-1]


@contextmanager
def on(processor: int) -> Iterator[None]:
    """This thread, and what it starts meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
