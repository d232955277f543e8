"""Tokenised splits as Arrow IPC files, which training maps into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard_trainer.prepare.spool import Spool

_BATCH = 2048  # rows tokenised and written at once
_SHARD_ROWS = 65_536


@dataclass
class ShardWriter:
    """Writes examples of one split into shard-00000.arrow, shard-00001.arrow …"""

    folder: Path
    labelled: bool
    files: list[dict[str, Any]] = field(default_factory=list)
    lengths: list[Any] = field(default_factory=list)
    largest_id: int = 0
    _writer: Any = None
    _rows: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        columns = [("input_ids", pa.list_(pa.int32()))]
        self._schema = pa.schema([*columns, ("labels", pa.int32())] if self.labelled else columns)

    def write(self, examples: list[Any], labels: list[int] | None) -> None:
        """Appends examples (token ids each)."""
        if not examples:
            return
        if self._writer is None:
            name = f"shard-{len(self.files):05d}.arrow"
            self._writer = pa.ipc.new_file(str(self.folder / name), self._schema)
            self._rows = 0
        arrays = [pa.array(examples, pa.list_(pa.int32()))]
        if self.labelled:
            arrays.append(pa.array(labels, pa.int32()))
        self._writer.write_batch(pa.record_batch(arrays, self._schema))
        self.lengths.append(np.fromiter((len(e) for e in examples), np.int32, len(examples)))
        ids = arrays[0].flatten()
        self.largest_id = max(self.largest_id, int(ids.to_numpy().max()) if len(ids) else 0)
        self._rows += len(examples)
        if self._rows >= _SHARD_ROWS:
            self.close()

    def close(self) -> None:
        """Ends the current shard."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        path = self.folder / f"shard-{len(self.files):05d}.arrow"
        self.files.append({"path": path.name, "bytes": path.stat().st_size, "rows": self._rows})

    def describe(self) -> dict[str, Any]:
        """Counts for the report. Lengths are in tokens."""
        lengths = np.concatenate(self.lengths) if self.lengths else np.zeros(0, np.int32)
        about: dict[str, Any] = {
            "examples": len(lengths),
            "tokens": int(lengths.sum()),
            "largestTokenId": self.largest_id,
            "files": self.files,
        }
        if len(lengths):
            p50, p95 = np.percentile(lengths, [50, 95])
            about["length"] = {
                "min": int(lengths.min()),
                "mean": round(float(lengths.mean()), 2),
                "p50": int(p50),
                "p95": int(p95),
                "max": int(lengths.max()),
            }
        return about


@dataclass
class EndTokens:
    """How many end-of-text tokens rows hold: some models classify at it, and need one in each row."""

    end: int | None
    least: tuple[int, int] | None = None  # the count, and a row of the spool that has it
    most: tuple[int, int] | None = None

    def see(self, examples: list[list[int]], rows: Any) -> None:
        """Counts them in examples (token ids each) of the spool's `rows`."""
        if self.end is None or not examples:
            return
        counts = [example.count(self.end) for example in examples]
        low, high = counts.index(min(counts)), counts.index(max(counts))
        self.least = min(self.least or (counts[low] + 1, 0), (counts[low], int(rows[low])))
        self.most = max(self.most or (-1, 0), (counts[high], int(rows[high])))

    def describe(self, spool: Spool) -> dict[str, Any]:
        """The least and the most, and where a row of each comes from."""
        assert self.least is not None and self.most is not None  # noqa: S101 - asked for where there are rows
        return {
            name: {"count": count, **spool.describe(row, labelled=False, text=False)}
            for name, (count, row) in (("least", self.least), ("most", self.most))
        }


def cut_parts(rows: Any) -> Iterator[Any]:
    """The rows in parts that are tokenised and written at once."""
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
