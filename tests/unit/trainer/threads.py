"""Ranks that are threads of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modelyard_trainer.train.ranks import Ranks

_PATIENCE_SECONDS = 30


class ThreadRanks(Ranks):
    """One of them."""

    def __init__(self, rank: int, meeting: threading.Barrier, values: list[Any]) -> None:
        super().__init__(rank, meeting.parties)
        self._meeting, self._values = meeting, values

    def gather(self, value: Any) -> list[Any]:
        self._values[self.rank] = value
        self._meeting.wait(_PATIENCE_SECONDS)
        values = list(self._values)
        self._meeting.wait(_PATIENCE_SECONDS)
        return values

    def share(self, value: Any) -> Any:
        return self.gather(value)[0]

    def wait(self) -> None:
        self.gather(None)


def run_ranks(world: int, function: Callable[[Ranks], Any]) -> list[Any]:
    """What the function returns on each of so many ranks."""
    meeting, values = threading.Barrier(world), [None] * world
    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(lambda rank: function(ThreadRanks(rank, meeting, values)), range(world)))
