"""Runs the child to its end: agreed stop, fatal errors, deadlines."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from modelyard.contract import codes

from modelyard_agent import resources
from modelyard_agent.files import explain, read_object, say, write_atomically
from modelyard_agent.logs import Output, StoredLog
from modelyard_agent.processes import Child
from modelyard_agent.progress import Progress
from modelyard_agent.signals import StopSignal
from modelyard_agent.succession import Succession
from modelyard_agent.workers import Workers

POLL_SECONDS = 0.1
WATCH_SECONDS = 1.0
ABORT_SECONDS = 3.0
# Ranks that have left their results meet once more and leave together, which takes moments; ranks that have died
# are started again with those of the other nodes.
LEAVE_SECONDS = 10.0
# Once they have left nothing is missing but torchrun's farewell.
FAREWELL_SECONDS = 3.0


@dataclass(frozen=True)
class Ending:
    """How the child ended. `code` is as subprocess has it; None: it was never started."""

    code: Optional[int]
    stopped: bool = False
    timed_out: bool = False
    fatal: Optional[Dict[str, Any]] = None
    began: bool = False
    successor: Optional[int] = None
    oom_kills: int = 0
    tail: Sequence[str] = ()


class Supervisor:
    """One child. `agrees` says that it looks for the stop request; others get the signal itself."""

    def __init__(
        self,
        runtime: Path,
        stop: StopSignal,
        progress: Progress,
        agrees: bool,
        stop_seconds: float,
        succession: Optional[Succession] = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._runtime = runtime
        self._stop = stop
        self._progress = progress
        self._agrees = agrees
        self._stop_seconds = stop_seconds
        self._succession = succession
        self._clock = clock
        self._workers = Workers(runtime / codes.RANKS_FOLDER)
        self._watch_at = 0.0
        self._deadline: Optional[float] = None
        self._asked = False
        self._terminated = False
        self._timed_out = False
        self._done_at: Optional[float] = None

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], stored: Optional[StoredLog]
    ) -> Ending:
        """Run the command until it and all that it started have ended. Raises OSError if it can't start."""
        oom_kills = resources.read_oom_kills()
        child = Child(command, environment)
        output = Output(child.pipe, stored)
        fatal = None
        while child.poll() is None:
            self._stop.wait(POLL_SECONDS)
            self._watch(child)
            fatal = read_object(self._runtime / codes.FATAL_FILE)
            if fatal is not None:
                self._abort(child)
                break
            if self._succession is not None and self._succession.successor is not None:
                say("attempt {} has begun: ending this one at once".format(self._succession.successor))
                break
            if self._stop.received and not self._asked:
                self._ask(child)
            if self._deadline is not None and self._clock() >= self._deadline:
                self._press(child)
        child.kill()
        output.close(ABORT_SECONDS)
        return Ending(
            code=child.poll(),
            stopped=self._stop.received,
            timed_out=self._timed_out,
            fatal=fatal or read_object(self._runtime / codes.FATAL_FILE),
            began=self._began(),
            successor=self._succession.successor if self._succession is not None else None,
            oom_kills=resources.read_oom_kills() - oom_kills,
            tail=output.tail(),
        )

    def _watch(self, child: Child) -> None:
        now = self._clock()
        if now >= self._watch_at:
            self._watch_at = now + WATCH_SECONDS
            living = child.watch()
            self._workers.observe(child.pid, living)
            self._progress.set_restarts(self._workers.restarts)
            self._release(child, self._workers.are_alive(living), now)

    def _release(self, child: Child, training: bool, now: float) -> None:
        """End a launcher that waits for other nodes although nothing is to come any more of this one.

        torchrun waits five minutes for a node that has vanished before it leaves, or for ten that it comes back.
        """
        given = (self._runtime / codes.RESULT_FILE).exists()
        gone = self._workers.seen and not training
        if not self._agrees or not (given or (self._asked and gone)):
            self._done_at = None
            return
        self._done_at = now if self._done_at is None else self._done_at
        limit = FAREWELL_SECONDS if given and gone else LEAVE_SECONDS
        if now - self._done_at >= limit and not self._terminated:
            say(
                "the training has ended here; leaving without the other nodes, which have not come to their end"
            )
            self._terminate(child)

    def _began(self) -> bool:
        return self._workers.seen or self._progress.reported

    def _ask(self, child: Child) -> None:
        self._asked = True
        self._workers.observe(child.pid, child.watch())
        if self._agrees and self._began():
            try:
                write_atomically(self._runtime / codes.STOP_FILE, b"")
                self._deadline = self._clock() + self._stop_seconds
                say(
                    "asked to stop: all ranks save at an agreed step, within {:.0f} s".format(
                        self._stop_seconds
                    )
                )
                return
            except OSError as error:
                say(explain(error, "the stop request can't be written to {}".format(self._runtime)))
        began = self._began() or not self._agrees
        self._deadline = self._clock() + (self._stop_seconds if began else ABORT_SECONDS)
        self._terminated = True
        child.terminate()

    def _press(self, child: Child) -> None:
        if self._terminated:
            child.kill()
            return
        if self._agrees and self._began():
            self._timed_out = True
            say("the processes did not save and leave in {:.0f} s: ending them".format(self._stop_seconds))
        self._terminate(child)

    def _terminate(self, child: Child) -> None:
        self._terminated = True
        self._deadline = self._clock() + ABORT_SECONDS / 2
        child.terminate()

    def _abort(self, child: Child) -> None:
        say("a process reported an error that no restart cures: ending all")
        child.terminate()
        deadline = self._clock() + ABORT_SECONDS
        while child.poll() is None and self._clock() < deadline:
            self._stop.wait(POLL_SECONDS)
        child.kill()
