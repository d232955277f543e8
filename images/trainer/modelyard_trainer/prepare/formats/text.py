"""Plain text: one row a line; blank lines only separate."""

from __future__ import annotations

from collections.abc import Iterator

from modelyard_trainer.prepare.decoding import FileText
from modelyard_trainer.prepare.formats.columns import Row, Wanted


def read(text: FileText, wanted: Wanted) -> Iterator[Row]:
    """Yields the rows; the one column is called text."""
    wanted.check(["text"])
    for line in text.lines():
        if line.strip():
            yield line.rstrip("\r\n"), None
