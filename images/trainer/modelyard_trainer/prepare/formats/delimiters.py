"""Which character parts the columns of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Sequence

CANDIDATES = (",", ";", "\t", "|")
_RECORDS = 100  # looked at


def named(name: str) -> str:
    """The character of data.sources[].delimiter, where `tab` is a word."""
    return "\t" if name == "tab" else name


def guess(lines: Sequence[str], wanted: Sequence[str]) -> str:
    """The delimiter by which the first lines make a table, best one whose header has the wanted columns.

    Quoted text counts for nothing.
    """
    return max(CANDIDATES, key=lambda delimiter: _judge(lines, delimiter, wanted))


def _judge(lines: Sequence[str], delimiter: str, wanted: Sequence[str]) -> tuple[bool, bool, float, int]:
    records = _parse(lines, delimiter)
    if not records:
        return False, False, 0.0, 0
    header, rows = records[0], records[1:]
    same = sum(len(row) == len(header) for row in rows) / len(rows) if rows else 1.0
    return set(wanted) <= set(header), len(header) > 1, same, len(header)


def _parse(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    reader = csv.reader(iter(lines), delimiter=delimiter)
    records: list[list[str]] = []
    try:
        for record in reader:
            if len(record) > 1 or (record and record[0].strip()):
                records.append(record)
            if len(records) > _RECORDS:
                break
    except csv.Error:
        pass  # the reading itself will say what is wrong, and where
    return records
