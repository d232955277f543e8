"""`modelyard status` and `modelyard watch`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from modelyard.cli import view
from modelyard.cli.errors import CommandError, NotFoundError

# A cluster that restarts is away for so many looks, not longer.
PATIENCE = 30
_UP_AND_CLEAR = "\x1b[{}A\x1b[J"


class Source(Protocol):
    """Where TrainingJobs are read."""

    def get_job(self, name: str) -> dict[str, Any]:
        """The TrainingJob. Raises NotFoundError or CommandError."""


def show(source: Source, name: str, out: TextIO) -> int:
    """Prints how the job stands. 1 if it failed, 0 otherwise."""
    job = source.get_job(name)
    lines = view.format_job(job, _now())
    if view.find_outcome(job) is not None:
        lines += [f"  {line}" for line in view.format_end(job)]
    print("\n".join(lines), file=out)
    return 1 if view.find_outcome(job) is False else 0


def run(
    source: Source,
    name: str,
    out: TextIO,
    interval: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], datetime] | None = None,
) -> int:
    """Shows progress until the job has ended: 0 if it succeeded, 1 if not.

    A terminal is painted over; anything else gets a line for each change. Raises NotFoundError if there is
    no such job, CommandError if the cluster stays away.
    """
    painter = _Painter(out) if out.isatty() else _Logger(out)
    now = clock or _now
    failures = 0
    seen = False
    while True:
        try:
            job = source.get_job(name)
        except NotFoundError:
            if not seen:
                raise
            print(f"{name} was deleted", file=out)
            return 1
        except CommandError:
            failures += 1
            if not seen or failures > PATIENCE:
                raise
            sleep(interval)
            continue
        seen, failures = True, 0
        painter.paint(job, now())
        outcome = view.find_outcome(job)
        if outcome is not None:
            print("\n".join(f"  {line}" for line in view.format_end(job)), file=out, flush=True)
            return 0 if outcome else 1
        sleep(interval)


class _Painter:
    """Paints over what it painted before."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rows = 0

    def paint(self, job: dict[str, Any], now: datetime) -> None:
        width = shutil.get_terminal_size().columns
        lines = view.format_job(job, now)
        text = "\n".join(lines) + "\n"
        if self._rows:
            text = _UP_AND_CLEAR.format(self._rows) + text
        # A long line takes several rows.
        self._rows = sum(max(1, -(-len(line) // width)) for line in lines)
        self._out.write(text)
        self._out.flush()


class _Logger:
    """A line for each change but the passing of time; warnings once, below the line that they come with."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._before: dict[str, Any] | None = None
        self._warned: list[str] = []

    def paint(self, job: dict[str, Any], now: datetime) -> None:
        status = job.get("status") or {}
        shown = {
            "head": view.format_head(job),
            "why": view.format_conditions(job),
            "progress": status.get("progress"),
        }
        if shown != self._before:
            self._before = shown
            print(f"{now:%H:%M:%S}  {view.format_line(job, now)}", file=self._out, flush=True)
        warnings = view.format_warnings(job)
        if warnings != self._warned:
            self._warned = warnings
            print("\n".join(f"  {line}" for line in warnings), file=self._out, flush=True)


def _now() -> datetime:
    return datetime.now(UTC)
