"""Texts that stand more than once: in two splits (leaks), and under two labels (contradictions).

All rows are compared, by 16 bytes of each; memory is about 100 bytes a row, whatever the texts' length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelyard_trainer.prepare.spool import Spool
from modelyard_trainer.prepare.steps import text_hash
from modelyard_trainer.prepare.warnings import SAMPLES

HELD_OUT = ("validation", "test")  # after train, in this order


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Rows with equal texts. `first[i]` is the first row with the text of row i, and i itself if that is it."""

    first: Any  # int64

    def contradictions(self, labels: Any) -> Any:
        """Rows (int64) whose label isn't that of the first row with their text."""
        return np.flatnonzero(labels != labels[self.first])

    def leaks(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """For each held-out split its rows (int64) whose text is in a split before it too: test is also compared
        with validation, by which the model may have been chosen.
        """
        rank: Any = np.zeros(len(self.first), np.int8)
        for place, split in enumerate(HELD_OUT, 1):
            rank[parts[split]] = place
        lowest: Any = np.full(len(self.first), len(HELD_OUT), np.int8)
        np.minimum.at(lowest, self.first, rank)
        earliest = lowest[self.first]
        return {
            split: np.flatnonzero((rank == place) & (earliest < place))
            for place, split in enumerate(HELD_OUT, 1)
        }


def find_overlaps(spool: Spool) -> Overlaps:
    """Compares all texts of a spool."""
    hashes: Any = np.empty((len(spool), 2), np.uint64)
    start = 0
    for texts in spool.iter_texts():
        hashes[start : start + len(texts)] = np.frombuffer(
            b"".join(map(text_hash, texts)), np.uint64
        ).reshape(-1, 2)
        start += len(texts)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: equal texts stay in the order of their rows
    ranked = hashes[order]
    begins: Any = np.ones(len(order), bool)
    begins[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    first: Any = np.empty(len(order), np.int64)
    first[order] = order[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    return Overlaps(first)


def sample_pairs(spool: Spool, rows: Any, overlaps: Overlaps, labelled: bool) -> list[dict[str, Any]]:
    """Some rows, each with the first one that has its text."""
    return [
        spool.describe(int(row), labelled)
        | {"first": spool.describe(int(overlaps.first[row]), labelled, text=False)}
        for row in rows[:SAMPLES]
    ]
