"""JSON objects as rows: which members they have, and what JSON itself refuses."""

from __future__ import annotations

from typing import Any

from modelyard_trainer.prepare.formats.columns import Row, Wanted

_PEEK = 100  # rows searched for a column's name before it is said to be missing


class Objects:
    """Takes rows out of objects. A row may leave a member out; a member that no row has is a mistake."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._missing = set(wanted.names)
        self._names: dict[str, None] = {}
        self._count = 0

    def take(self, value: dict[str, Any]) -> Row:
        """Text and label of one object. Raises Failure (ColumnNotFound)."""
        self._count += 1
        if self._missing:
            self._names.update(dict.fromkeys(value))
            self._missing.difference_update(value)
            if self._missing and self._count == _PEEK:
                self._wanted.check(list(self._names))
        columns = self._wanted.columns
        return value.get(columns.text), value.get(columns.label) if self._wanted.labelled else None

    def end(self) -> None:
        """After the last one. Raises Failure (ColumnNotFound)."""
        if self._count and self._missing:
            self._wanted.check(list(self._names))


def explain(error: ValueError | RecursionError) -> str:
    """Why the parser refused a text, in few words."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)


def describe(value: Any) -> str:
    """What a JSON value is, for a message."""
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else "an object")
