"""Sections of the measurements: each is on its own, bounded in time, and a failure of one is a row of its table."""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

Row = dict[str, Any]
# What is printed below a table rather than in it.
BELOW = "by_verb"
LONGEST_ERROR = 300


class OverTimeError(BaseException):
    """A section's time is up. No Exception: nothing inside a section may take it for a failure of its own."""


class Rows(list[Row]):
    """The rows of one table. What was measured stays, whatever fails later."""

    @contextmanager
    def measure(self, **label: Any) -> Iterator[Row]:
        """A row to fill. If the body fails, the row says why and what comes after goes on; unfilled, it is left out."""
        row: Row = {}
        try:
            yield row
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            row["error"] = describe(error)
        if row:
            self.append(label | row)

    def failures(self) -> list[str]:
        """One sentence for each row that failed, its label first."""
        found = []
        for row in self:
            if "error" in row:
                label = [str(v) for k, v in row.items() if k != "error" and isinstance(v, str | int)]
                found.append(", ".join(label[:2]) + (": " if label else "") + row["error"])
        return found


@dataclass(frozen=True)
class Section:
    """One table. `measure` appends its rows; it has `seconds` for that."""

    name: str
    title: str
    seconds: float
    measure: Callable[[Rows], None]


def describe(error: BaseException) -> str:
    """An error on one line, short enough for a table, with the one that it came on top of."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ").replace("|", "/")
    earlier = error.__context__
    if isinstance(earlier, Exception) and not error.__suppress_context__:
        return f"{describe(earlier)[: LONGEST_ERROR // 2]}; then {text}"[:LONGEST_ERROR]
    return text[:LONGEST_ERROR]


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Ends the body with OverTimeError when it takes longer. Only in the main thread.

    The body is interrupted as Ctrl+C does it, because an event loop can be interrupted in no other way: an exception
    raised between two of its callbacks loses the one that was next, and its task never ends. Whatever lets an
    interruption pass gets another after as long again.
    """
    rung = False

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal rung
        rung = True
        signal.raise_signal(signal.SIGINT)

    # What a shell starts in the background ignores interruptions.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError):
        if rung:
            raise OverTimeError(f"not done after {seconds} s") from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.signal(signal.SIGINT, interrupt)
        signal.setitimer(signal.ITIMER_REAL, *timer)  # that of the tests' own limit


def run_section(section: Section) -> Rows:
    """Measures one section and prints its table. Raises nothing but what ends the program (KeyboardInterrupt)."""
    rows = Rows()
    try:
        with limited(section.seconds):
            section.measure(rows)
        if not rows:
            raise RuntimeError("nothing was measured")
    except (Exception, SystemExit, OverTimeError) as error:
        traceback.print_exc()
        rows.append({"error": describe(error)})
    print_table(section.title, rows)
    return rows


def run_sections(
    sections: Sequence[Section], results: dict[str, Any], store: Callable[[], None]
) -> dict[str, list[str]]:
    """Measures one section after the other and stores `results` after each; the failures by section."""
    failed: dict[str, list[str]] = results.setdefault("failed", {})
    for section in sections:
        rows = run_section(section)
        results[section.name] = list(rows)
        if rows.failures():
            failed[section.name] = rows.failures()
        store()
    return failed


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Prints rows as a Markdown table. A failed row has its error in a last column, and `-` for what it lacks."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != BELOW))
    columns = [name for name in names if name != "error"] + [name for name in names if name == "error"]
    print(f"\n{title}\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print(
            "| " + " | ".join("-" if row.get(c) is None else str(row[c]) for c in columns) + " |", flush=True
        )
    for row in rows:
        if row.get(BELOW):
            print(f"  requests per job ({row['mode']}, {row['jobs']}): {row[BELOW]}")
