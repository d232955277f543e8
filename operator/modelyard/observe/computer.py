"""Has questions computed in a process of their own, which is there only while there are some."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelyard.engine.plan import Key
from modelyard.engine.probe import Computation

log = logging.getLogger(__name__)

LIMIT = 60.0  # seconds for one answer
IDLE = 30.0  # seconds after which a process that has nothing to do ends
DEATHS = 3  # so many processes that die of a question are enough
LONGEST_LINE = 1 << 26  # bytes of an answer
_COMMAND = (sys.executable, "-m", "modelyard.observe.worker")


class ComputeMetrics(Protocol):
    """What is measured of computing."""

    def computed(self, result: str, seconds: float) -> None:
        """A question was answered: `answer`, `error`."""


@dataclass(slots=True)
class _Asked:
    key: Key
    question: Computation
    answer: dict[str, Any] | None = None
    dropped: bool = False


class Computer:
    """Implements `engine.ports.Facts` for computations: one at a time, in the order in which they were asked."""

    def __init__(
        self,
        changed: Callable[[Key], object],
        metrics: ComputeMetrics,
        monotonic: Callable[[], float],
        *,
        limit: float = LIMIT,
        idle: float = IDLE,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        self._changed = changed
        self._metrics = metrics
        self._monotonic = monotonic
        self._limit = limit
        self._idle = idle
        self._command = command
        self._asked: dict[Key, dict[str, _Asked]] = {}
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue()
        self._process: asyncio.subprocess.Process | None = None

    def watch(self, key: Key, questions: Sequence[Computation]) -> None:
        """Computes exactly these for this resource. An answer is kept as long as its question is asked."""
        old = self._asked.pop(key, {})
        new = {}
        for question in questions:
            asked = old.pop(question.name, None)
            if asked is None:
                asked = _Asked(key, question)
                self._waiting.put_nowait(asked)
            new[question.name] = asked
        for left in old.values():
            left.dropped = True
        if new:
            self._asked[key] = new

    def of(self, key: Key) -> Mapping[str, Mapping[str, Any]]:
        """The answers, by the questions' names."""
        asked = self._asked.get(key)
        return {name: a.answer for name, a in asked.items() if a.answer is not None} if asked else {}

    async def run(self) -> None:
        """Computes until cancelled."""
        try:
            while True:
                try:
                    asked = await asyncio.wait_for(self._waiting.get(), self._idle if self._process else None)
                except TimeoutError:
                    await self._end()
                    continue
                if not asked.dropped:
                    await self._answer(asked)
        finally:
            await self._end(kill=True)

    async def _answer(self, asked: _Asked) -> None:
        began = self._monotonic()
        answer = await self._compute(asked.question)
        result = next(iter(answer))
        self._metrics.computed(result, self._monotonic() - began)
        if result == "error":
            details = {"key": str(asked.key), "function": asked.question.function, "detail": answer["error"]}
            log.error("computation failed", extra=details)
        asked.answer = answer
        if not asked.dropped:
            self._changed(asked.key)

    async def _compute(self, question: Computation) -> dict[str, Any]:
        line = json.dumps({"function": question.function, "payload": question.payload}).encode() + b"\n"
        for _ in range(DEATHS):
            try:
                answer = await asyncio.wait_for(self._exchange(line), self._limit)
            except TimeoutError:
                await self._end(kill=True)
                return {"error": f"took longer than {self._limit:g} s"}
            except (OSError, ValueError) as error:
                log.warning("computing process lost", extra={"detail": f"{type(error).__name__}: {error}"})
                await self._end(kill=True)
                continue
            if answer:
                found: dict[str, Any] = json.loads(answer)
                return found
            await self._end(kill=True)
        return {"error": f"{DEATHS} processes have died of it"}

    async def _exchange(self, line: bytes) -> bytes:
        """Sends a question; the answer's line, empty where the process died."""
        if self._process is None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, limit=LONGEST_LINE
            )
        source, sink = self._process.stdout, self._process.stdin
        if source is None or sink is None:
            raise OSError("the process has no pipes")
        sink.write(line)
        await sink.drain()
        return await source.readline()

    async def _end(self, *, kill: bool = False) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if kill:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        try:
            await asyncio.wait_for(process.wait(), 5.0)
        except TimeoutError:
            process.kill()
            await process.wait()
