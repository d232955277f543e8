"""The rows that passed all steps, on disk: memory stays flat however large the data are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard_trainer.prepare.rows import Item

_SCHEMA = pa.schema(
    [("text", pa.string()), ("label", pa.string()), ("source", pa.string()), ("number", pa.int64())]
)
_TEXT, _LABEL, _SOURCE, _NUMBER = range(4)


def write_spool(path: Path, batches: Iterator[list[Item]]) -> None:
    """Writes all rows into one Arrow file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for batch in batches:
            columns = [
                pa.array([i.text for i in batch], pa.string()),
                pa.array([i.label for i in batch], pa.string()),
                pa.array([i.source for i in batch], pa.string()),
                pa.array([i.number for i in batch], pa.int64()),
            ]
            writer.write_batch(pa.record_batch(columns, _SCHEMA))


@dataclass
class Spool:
    """Random access to the rows of a spool, memory-mapped."""

    batches: list[Any]
    starts: Any  # first row of each batch, int64

    @classmethod
    def open(cls, path: Path) -> Spool:
        """Maps a spool."""
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        return cls(batches, np.cumsum([0, *(b.num_rows for b in batches)]))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def labels(self) -> tuple[list[str], Any]:
        """The different labels, and for each row the index of its own (int32)."""
        places: dict[str, int] = {}
        ids: Any = np.empty(len(self), np.int32)
        for batch, start in zip(self.batches, self.starts, strict=False):
            coded = batch.column(_LABEL).dictionary_encode()
            known = [places.setdefault(label, len(places)) for label in coded.dictionary.to_pylist()]
            ids[start : start + len(coded)] = np.asarray(known, np.int32)[np.asarray(coded.indices)]
        return list(places), ids

    def iter_texts(self) -> Iterator[list[str]]:
        """All texts in the order of the rows, some at a time."""
        for batch in self.batches:
            yield batch.column(_TEXT).to_pylist()

    def texts(self, rows: Sequence[int]) -> list[str]:
        """The texts of some rows, in the order asked for."""
        return self._pick(_TEXT, rows)

    def describe(self, row: int, labelled: bool, *, text: bool = True) -> dict[str, Any]:
        """Where a row comes from, and what it holds."""
        place: dict[str, Any] = {
            "source": self._pick(_SOURCE, [row])[0],
            "row": self._pick(_NUMBER, [row])[0],
        }
        if labelled:
            place["label"] = self._pick(_LABEL, [row])[0]
        return place | ({"text": self._pick(_TEXT, [row])[0]} if text else {})

    def _pick(self, column: int, rows: Sequence[int]) -> list[Any]:
        places: Any = np.searchsorted(self.starts, np.asarray(rows), side="right") - 1
        return [
            self.batches[place].column(column)[int(row - self.starts[place])].as_py()
            for row, place in zip(rows, places.tolist(), strict=True)
        ]
