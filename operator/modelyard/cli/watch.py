"""`modelyard status` and `modelyard watch`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from modelyard.cli.errors import CommandError, NotFoundError
from modelyard.cli.kind import Look, Object

# A cluster that restarts is away for so many looks, not longer.
PATIENCE = 30
_UP_AND_CLEAR = "\x1b[{}A\x1b[J"


Read = Callable[[], dict[str, Any]]
View = Callable[[Object, datetime], Look]


def show(read: Read, view: View, out: TextIO) -> int:
    """Prints how an object stands. 1 if it failed, 0 otherwise. `read` raises NotFoundError or CommandError."""
    look = view(read(), _now())
    print("\n".join([*look.lines, *(f"  {line}" for line in look.end)]), file=out)
    return 1 if look.outcome is False else 0


def run(
    read: Read,
    view: View,
    title: str,
    out: TextIO,
    interval: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], datetime] | None = None,
) -> int:
    """Shows progress until the object is at its end: 0 if that is a good one, 1 if not.

    A terminal is painted over; anything else gets a line for each change. Raises NotFoundError if there is
    no such object, CommandError if the cluster stays away.
    """
    painter = _Painter(out) if out.isatty() else _Logger(out)
    now = clock or _now
    failures = 0
    seen = False
    while True:
        try:
            found = read()
        except NotFoundError:
            if not seen:
                raise
            print(f"{title} was deleted", file=out)
            return 1
        except CommandError:
            failures += 1
            if not seen or failures > PATIENCE:
                raise
            sleep(interval)
            continue
        seen, failures = True, 0
        at = now()
        look = view(found, at)
        painter.paint(look, at)
        if look.outcome is not None:
            _print_indented(look.end, out)
            return 0 if look.outcome else 1
        sleep(interval)


def _print_indented(lines: Sequence[str], out: TextIO) -> None:
    if lines:
        print("\n".join(f"  {line}" for line in lines), file=out, flush=True)


class _Painter:
    """Paints over what it painted before."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rows = 0

    def paint(self, look: Look, now: datetime) -> None:
        del now  # a terminal is read while it happens
        width = shutil.get_terminal_size().columns
        text = "\n".join(look.lines) + "\n"
        if self._rows:
            text = _UP_AND_CLEAR.format(self._rows) + text
        # A long line takes several rows.
        self._rows = sum(max(1, -(-len(line) // width)) for line in look.lines)
        self._out.write(text)
        self._out.flush()


class _Logger:
    """A line for each change but the passing of time; notes once, below the line that they come with."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._mark: Any = None
        self._notes: list[str] = []

    def paint(self, look: Look, now: datetime) -> None:
        if look.mark != self._mark:
            self._mark = look.mark
            print(f"{now:%H:%M:%S}  {look.line}", file=self._out, flush=True)
        if look.notes != self._notes:
            self._notes = look.notes
            _print_indented(look.notes, self._out)


def _now() -> datetime:
    return datetime.now(UTC)
