"""What a column of a source looks like as its rows go by: empty, or the same value again and again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelyard_trainer.prepare.warnings import Suspicions

_EMPTY = 0.5  # share of rows without a value from which on a column is called nearly empty
_FEW = 10  # rows, below which a column that never changes means nothing


@dataclass
class Column:
    """One column of one source. Counting takes no memory but the first value. A source may be all of one class,
    but hardly of one text: `may_be_constant`.
    """

    source: str
    name: str
    may_be_constant: bool = False
    rows: int = 0
    empty: int = 0
    first: str | None = None
    changes: bool = False

    def see(self, value: str) -> None:
        """Counts one row's value."""
        self.rows += 1
        if not value.strip():
            self.empty += 1
        elif self.first is None:
            self.first = value
        elif value != self.first:
            self.changes = True

    @property
    def nearly_empty(self) -> bool:
        """Whether half of its rows or more have no value."""
        return 0 < self.rows <= self.empty / _EMPTY

    @property
    def constant(self) -> bool:
        """Whether ten rows or more all have the same value, and should not."""
        return not self.may_be_constant and not self.changes and self.rows - self.empty >= _FEW


def tell_columns(columns: Iterable[Column], suspicions: Suspicions) -> None:
    """Warns of columns that are nearly empty or never change."""
    listed = list(columns)
    empty = [c for c in listed if c.nearly_empty]
    if empty:
        shown = "; ".join(f"{c.name!r} of source {c.source} in {c.empty} of {c.rows} rows" for c in empty[:4])
        suspicions.add(
            "EmptyColumn",
            f"nothing stands in column {shown}: those rows were removed; check data.sources[].columns",
            sum(c.empty for c in empty),
            [{"source": c.source, "column": c.name, "rows": c.rows, "empty": c.empty} for c in empty],
        )
    constant = [c for c in listed if c.constant]
    if constant:
        shown = "; ".join(f"{c.name!r} of source {c.source} ({_short(c.first)})" for c in constant[:4])
        suspicions.add(
            "ConstantColumn",
            f"every row has the same value in column {shown}; check data.sources[].columns",
            len(constant),
            [{"source": c.source, "column": c.name, "rows": c.rows, "value": c.first} for c in constant],
        )


def _short(value: str | None, limit: int = 40) -> str:
    text = value or ""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
