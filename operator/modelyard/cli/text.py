"""Words and figures as a terminal shows them, of whatever kind."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

# They are true when something is not as it shall be.
_NEGATIVE = ("Reconciling", "Stalled", "Suspended")


def find_status(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Its status; an empty one before the operator has seen it."""
    status: Mapping[str, Any] = obj.get("status") or {}
    return status


def find_true(obj: Mapping[str, Any]) -> set[str]:
    """The conditions that hold."""
    return {c["type"] for c in find_status(obj).get("conditions") or [] if c["status"] == "True"}


def is_current(obj: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the spec as it is. A manifest that was just corrected is not Stalled by it."""
    seen = find_status(obj).get("observedGeneration", -1)
    return bool(seen >= obj["metadata"].get("generation", -1))


def explain(
    obj: Mapping[str, Any], *, silent: Container[str] = (), expected: Container[str] = ()
) -> list[str]:
    """Why it isn't going on: each condition that isn't as it should be, with its words, each word once.

    Left out are the types `silent` and the reasons `expected`.
    """
    lines: list[str] = []
    said: set[str] = set()
    conditions = find_status(obj).get("conditions") or []
    # Those that sum up come first and last, so that the words stand beside the part that they are about.
    for condition in sorted(conditions, key=lambda c: (c["type"] != "Ready", c["type"] in _NEGATIVE)):
        kind, reason, message = condition["type"], condition["reason"], str(condition.get("message", ""))
        good = "False" if kind in _NEGATIVE else "True"
        if condition["status"] == good or kind in silent or reason in expected or message in said:
            continue
        said.add(message)
        lines.append(f"{kind}: {reason}: {message}")
    return lines


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of which the first and the last are words, and those between them figures."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def format_duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_bytes(number: int) -> str:
    """980 kB, 91.6 MB, 14.5 GB: in powers of ten, as disks are sold."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.0f} kB"


def format_number(value: float | None) -> str:
    """Three digits that count; a dash for what nobody measured."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
