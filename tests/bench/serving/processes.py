"""A load in processes of its own, so that neither a test's work nor another's measurement is in its way."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.bench.serving.load import Plan, Result
from tests.bench.serving.worker import read_result, write_plan

ROOT = Path(__file__).resolve().parents[3]
MODULE = "tests.bench.serving.worker"
# Between the word to begin and the beginning, so that all processes have heard it.
LEAD_SECONDS = 0.1


class Workers:
    """The processes of one load, within `with`; those that run at its end are killed.

    Raises RuntimeError when one of them ends without a result; its words are on standard error.
    """

    def __init__(self, plan: Plan, processes: int = 1) -> None:
        self.begin = 0.0
        self._plan, self._number = plan, processes
        self._running: list[subprocess.Popen[bytes]] = []
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        try:
            for _ in range(self._number):
                file = tempfile.TemporaryFile()
                self._files.append(file)
                process = subprocess.Popen(
                    [sys.executable, "-m", MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=env,
                    pass_fds=[file.fileno()],
                    # Ctrl-C is for who waits for the result; these end when their input does.
                    start_new_session=True,
                )
                self._running.append(process)
            for index in range(self._number):
                self._tell(index, write_plan(self._plan, index, self._number, self._files[index].fileno()))
            for process in self._running:
                assert process.stdout is not None
                if process.stdout.readline() != b"ready\n":
                    raise self._explain(process)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def start(self) -> float:
        """The monotonic time at which the load begins, warm-up first."""
        self.begin = time.monotonic() + LEAD_SECONDS
        for index in range(self._number):
            self._tell(index, f"{self.begin!r}\n".encode())
        return self.begin

    def stop(self) -> None:
        """Nothing more is sent; what is under way goes on to its end."""
        for index in range(self._number):
            self._tell(index, b"stop\n")

    def collect(self) -> Result:
        """Waits for the end; what all processes had together."""
        results = [self._read(*pair) for pair in zip(self._running, self._files, strict=True)]
        together = results[0]
        for other in results[1:]:
            together.samples.extend(other.samples)
            together.own += other.own
        # By the clock all windows are the same, but for one that a number of requests ends.
        together.window = (together.window[0], max(result.window[1] for result in results))
        return together

    def _tell(self, index: int, line: bytes) -> None:
        process = self._running[index]
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            raise self._explain(process) from None

    def _read(self, process: subprocess.Popen[bytes], file: IO[bytes]) -> Result:
        if process.wait():
            raise self._explain(process)
        file.seek(0)
        return read_result(file)

    def _explain(self, process: subprocess.Popen[bytes]) -> RuntimeError:
        process.kill()
        return RuntimeError(f"a process of the load ended with {process.wait()} and left no result")

    def _kill(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        for file in self._files:
            file.close()


def run_load(plan: Plan, processes: int = 1) -> Result:
    """Puts the load on its server and waits for its end."""
    with Workers(plan, processes) as workers:
        workers.start()
        return workers.collect()
