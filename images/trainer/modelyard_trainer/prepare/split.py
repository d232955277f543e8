"""Divides the rows into train, validation and test: shuffled by seed, by share of the labels if asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from modelyard.api.data import Split
from modelyard_models.failure import Failure, shorten

SPLITS = ("train", "validation", "test")


def split_rows(rows: int, labels: Any | None, names: Sequence[str], spec: Split) -> dict[str, Any]:
    """Row numbers (int64 arrays) of each split; `train` in the shuffled order in which it is trained on.

    `labels` are indices into `names` by row, or None. A split with a fraction above 0 gets at least one row.
    Raises Failure (DataInvalid).
    """
    validation, test = _share(rows, spec.validation), _share(rows, spec.test)
    if rows - validation - test < 1:
        raise Failure(
            "DataInvalid",
            f"{rows} rows leave none for training after validation {spec.validation} and test {spec.test}; "
            "give more data or smaller fractions",
        )
    # RandomState's stream is frozen by numpy; Generator's may change with a release.
    order = np.random.RandomState(spec.seed).permutation(rows)
    if spec.stratify_by is None:
        return {
            "train": order[validation + test :],
            "validation": order[:validation],
            "test": order[validation : validation + test],
        }
    if labels is None:
        raise Failure(
            "DataInvalid",
            "data.split.stratifyBy: label needs labels, which text-generation has not; remove it",
        )
    counts = np.bincount(labels, minlength=len(names))
    sizes = {"validation": validation, "test": test}
    _check_counts(counts, names, spec, {split: size for split, size in sizes.items() if size})
    return _deal(order, labels, apportion(counts.tolist(), spec.validation, spec.test))


def _share(rows: int, fraction: float) -> int:
    return max(1, round(rows * fraction)) if fraction > 0 else 0


def _check_counts(counts: Any, names: Sequence[str], spec: Split, sizes: dict[str, int]) -> None:
    parts = 1 + len(sizes)
    rare = [f"{names[i]!r} has {counts[i]}" for i in np.flatnonzero(counts < parts).tolist()]
    if rare:
        more = f" and {len(rare) - 6} classes more" if len(rare) > 6 else ""
        raise Failure(
            "DataInvalid",
            f"data.split.stratifyBy: label puts each class into {parts} splits, which takes as many rows of it, but "
            f"{', '.join(rare[:6])}{more}; add rows, remove the classes, or remove stratifyBy",
        )
    for split, size in sizes.items():
        if size < len(names):
            rows = int(counts.sum())
            smallest = [names[i] for i in np.argsort(counts, kind="stable").tolist()]
            raise Failure(
                "DataInvalid",
                f"data.split.{split} of {getattr(spec, split)} is {size} of {rows} rows, which can't hold each of "
                f"the {len(names)} classes (the rarest: {shorten(smallest, 3)}); raise it to "
                f"{math.ceil(len(names) / rows * 1000) / 1000} or more, or remove stratifyBy",
            )


def apportion(counts: Sequence[int], validation: float, test: float) -> Any:
    """Rows of each class (first axis) in train, validation and test (second axis), int64.

    By largest remainders: each split gets its share of a class's rows to within one row; what one class's
    rounding takes from a split, the next ones give back, so that the splits' sizes come out right too. A class
    that has a row for each split has one in each, which may take a second row from its larger splits.
    """
    shares = (1.0 - validation - test, validation, test)
    used = [split for split, share in enumerate(shares) if share > 0]
    dealt: Any = np.zeros((len(counts), len(shares)), np.int64)
    owed = [0.0] * len(shares)  # rows that each split should have had by now and has not
    for place, count in enumerate(counts):
        # Rounded, for 0.1 * 30 is 3.0000000000000004 and has no remainder.
        quotas = [round(count * share, 9) for share in shares]
        cells = [math.floor(quota) for quota in quotas]
        owed = [debt + quota - cell for debt, quota, cell in zip(owed, quotas, cells, strict=True)]
        open_ = sorted((s for s in used if quotas[s] > cells[s]), key=lambda s: (-round(owed[s], 9), s))
        for split in open_[: count - sum(cells)]:
            cells[split] += 1
            owed[split] -= 1
        if count >= len(used):
            for split in used:
                if cells[split] == 0:
                    giver = max(used, key=lambda s: (cells[s], -s))
                    cells[giver], cells[split] = cells[giver] - 1, 1
                    owed[giver], owed[split] = owed[giver] + 1, owed[split] - 1
        dealt[place] = cells
    return dealt


def _deal(order: Any, labels: Any, sizes: Any) -> dict[str, Any]:
    """Gives each class's rows, in the shuffled order, to validation, test and train."""
    shuffled = labels[order]
    by_class = np.argsort(shuffled, kind="stable")
    begins = np.concatenate([[0], np.cumsum(sizes.sum(axis=1))[:-1]])
    rank: Any = np.empty(len(order), np.int64)  # of a row among those of its class
    rank[by_class] = np.arange(len(order)) - np.repeat(begins, sizes.sum(axis=1))
    validation, test = sizes[shuffled, 1], sizes[shuffled, 2]
    return {
        "train": order[rank >= validation + test],
        "validation": order[rank < validation],
        "test": order[(rank >= validation) & (rank < validation + test)],
    }
