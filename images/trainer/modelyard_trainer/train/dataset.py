"""The prepared Arrow shards as a torch dataset, mapped into memory and not copied, and their batching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from modelyard_models.failure import Failure
from torch.utils.data import Dataset

IGNORED = -100  # label that costs nothing, torch's cross entropy's default


class ShardDataset(Dataset):  # type: ignore[misc]
    """Rows of one split: `input_ids` (int32 array of varying length) and, if labelled, `labels` (int).

    The files count the classes in the data's order; `places` has where each is in the model's head.
    """

    def __init__(self, folder: Path, places: Sequence[int] | None = None) -> None:
        self._places = places
        self._ids: list[Any] = []
        self._offsets: list[Any] = []
        self._labels: list[Any] = []
        starts = [0]
        for path in sorted(folder.glob("shard-*.arrow")):
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                column = batch.column("input_ids")
                self._ids.append(column.values.to_numpy(zero_copy_only=True))
                self._offsets.append(column.offsets.to_numpy(zero_copy_only=True))
                if "labels" in batch.schema.names:
                    self._labels.append(batch.column("labels").to_numpy(zero_copy_only=True))
                starts.append(starts[-1] + batch.num_rows)
        self._starts = np.asarray(starts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        if row < 0 or place >= len(self._ids):
            raise IndexError(row)
        inner = row - int(self._starts[place])
        first, last = self._offsets[place][inner : inner + 2]
        item: dict[str, Any] = {"input_ids": self._ids[place][first:last]}
        if self._labels:
            label = int(self._labels[place][inner])
            item["labels"] = label if self._places is None else self._places[label]
        return item

    @property
    def mean_length(self) -> float:
        """Tokens per row, on average."""
        tokens = sum(int(o[-1] - o[0]) for o in self._offsets)
        return tokens / len(self) if len(self) else 0.0


def open_split(dataset: Path, split: str, places: Sequence[int] | None = None) -> ShardDataset:
    """A split of a prepared dataset (see ShardDataset). Raises Failure (DatasetMissing, temporary)."""
    if not (dataset / split).is_dir():
        # The prepare stage succeeded, so this is storage that isn't what the prepare pod saw.
        raise Failure("DatasetMissing", f"{dataset / split} is gone; check the job's storage", temporary=True)
    return ShardDataset(dataset / split, places)


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes a batch: rows padded at the right (or `left`) to the longest one, rounded up to `multiple`
    within `limit`, the most tokens that the model takes.

    Gives int64 tensors of shape (rows, tokens): input_ids, attention_mask, and labels; the labels are of
    shape (rows,) for classification, and the tokens themselves for generation (the model shifts them).
    """

    pad_id: int
    labelled: bool
    multiple: int = 1
    left: bool = False
    limit: int | None = None

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        rounded = -(-longest // self.multiple) * self.multiple
        longest = max(longest, rounded if self.limit is None else min(rounded, self.limit))
        ids: Any = np.full((len(rows), longest), self.pad_id, np.int64)
        mask: Any = np.zeros((len(rows), longest), np.int64)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            places = slice(longest - length, None) if self.left else slice(length)
            ids[index, places] = row["input_ids"]
            mask[index, places] = 1
        labels = (
            np.asarray([r["labels"] for r in rows], np.int64)
            if self.labelled
            else np.where(mask, ids, IGNORED)
        )
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
        }
