"""The columns that are read of a file, and what is said when they aren't there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from modelyard.api.data import Columns
from modelyard_models.failure import Failure, nearest, shorten


class Mark(Enum):
    """What stands in a label's place that is none: why the row is no row to train on."""

    NO_LABEL = "noLabel"  # by the file's own convention
    HEADER = "repeatedHeader"  # the names of the columns again, as where files were joined by cat


Row = tuple[Any, Any]  # text and label, as the file has them; None for nothing


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns to read of one file. `where` begins each message: source and file."""

    columns: Columns
    labelled: bool
    where: str

    @property
    def names(self) -> list[str]:
        """Names of the columns; text first."""
        return [self.columns.text, self.columns.label] if self.labelled else [self.columns.text]

    def check(self, found: Sequence[str], hint: str = "") -> None:
        """Raises Failure: ColumnNotFound with the nearest name and `hint`, DataInvalid for a name that stands twice."""
        for role, name in (("text", self.columns.text), ("label", self.columns.label)):
            if role == "label" and not self.labelled:
                continue
            if name not in found:
                near = nearest(name, found)
                raise Failure(
                    "ColumnNotFound",
                    f"{self.where}: no column {name!r} for the {role}; found {shorten(found)}"
                    + (f"; did you mean {near!r}? Set" if near else "; set")
                    + f" data.sources[].columns.{role}{hint}",
                )
            if found.count(name) > 1:
                places = [str(i) for i, other in enumerate(found, 1) if other == name]
                raise self.fail(f"columns {' and '.join(places)} are both called {name!r}; rename one")

    def fail(self, what: str, line: int | None = None) -> Failure:
        """DataInvalid for something in the file."""
        place = f"{self.where}, line {line}" if line is not None else self.where
        return Failure("DataInvalid", f"{place}: {what}")
