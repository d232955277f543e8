"""All that plans may ask, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.engine.plan import Key
from modelyard.engine.probe import Age, Computation, Question
from modelyard.observe.computer import Computer
from modelyard.observe.poller import Poller


class AllFacts:
    """Implements `engine.ports.Facts`."""

    def __init__(self, poller: Poller, computer: Computer) -> None:
        self._poller = poller
        self._computer = computer

    def watch(self, key: Key, questions: Sequence[Question]) -> None:
        """Asks exactly these for this resource from now on."""
        self._poller.watch(key, [q for q in questions if not isinstance(q, Computation)])
        self._computer.watch(key, [q for q in questions if isinstance(q, Computation)])

    def of(self, key: Key) -> Mapping[str, Mapping[str, Any]]:
        """The last answers, by the questions' names."""
        return {**self._poller.of(key), **self._computer.of(key)}

    def ages(self, key: Key) -> Mapping[str, Age]:
        """How old those are that pods have given."""
        return self._poller.ages(key)

    async def run(self) -> None:
        """Asks and computes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poller.run())
            group.create_task(self._computer.run())
