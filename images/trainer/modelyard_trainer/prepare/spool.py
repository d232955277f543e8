"""The rows that passed all steps, on disk: memory stays flat however large the data are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard_trainer.prepare.rows import Item

_SCHEMA = pa.schema([("text", pa.string()), ("label", pa.string())])


def write_spool(path: Path, batches: Iterator[list[Item]]) -> None:
    """Writes all rows into one Arrow file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
        for batch in batches:
            texts, labels = [i.text for i in batch], [i.label for i in batch]
            writer.write_batch(
                pa.record_batch([pa.array(texts, pa.string()), pa.array(labels, pa.string())], _SCHEMA)
            )


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

    def labels(self) -> list[str]:
        """All labels, in the order of the rows."""
        return [label for batch in self.batches for label in batch.column(1).to_pylist()]

    def texts(self, rows: Sequence[int]) -> list[str]:
        """The texts of some rows, in the order asked for."""
        return self._pick(0, rows)

    def labels_of(self, rows: Sequence[int]) -> list[str]:
        """The labels of some rows, in the order asked for."""
        return self._pick(1, rows)

    def _pick(self, column: int, rows: Sequence[int]) -> list[str]:
        places: Any = np.searchsorted(self.starts, np.asarray(rows), side="right") - 1
        return [
            self.batches[place].column(column)[int(row - self.starts[place])].as_py()
            for row, place in zip(rows, places.tolist(), strict=True)
        ]
