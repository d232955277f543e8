"""Divides the rows into train, validation and test: shuffled by seed, by share of the labels if asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from modelyard.api.data import Split

from modelyard_trainer.failure import Failure, shorten

SPLITS = ("train", "validation", "test")


def split_rows(rows: int, labels: list[str] | None, spec: Split) -> dict[str, Any]:
    """Row numbers (int64 arrays) of each split; `train` in the shuffled order in which it is trained on.

    A split with a fraction above 0 gets at least one row. Raises Failure (DataInvalid).
    """
    validation, test = _share(rows, spec.validation), _share(rows, spec.test)
    if rows - validation - test < 1:
        raise Failure(
            "DataInvalid",
            f"{rows} rows leave none for training after validation {spec.validation} and test {spec.test}; "
            "give more "
            "data or smaller fractions",
        )
    if spec.stratify_by is None:
        # RandomState's stream is frozen by numpy; Generator's may change with a release.
        order = np.random.RandomState(spec.seed).permutation(rows)
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
    return _stratified(rows, labels, spec, validation, test)


def _share(rows: int, fraction: float) -> int:
    return max(1, round(rows * fraction)) if fraction > 0 else 0


def _stratified(rows: int, labels: list[str], spec: Split, validation: int, test: int) -> dict[str, Any]:
    from sklearn.model_selection import train_test_split

    parts = 1 + (validation > 0) + (test > 0)
    counts = Counter(labels)
    rare = sorted(label for label, n in counts.items() if n < parts)
    if rare:
        raise Failure(
            "DataInvalid",
            f"data.split.stratifyBy: label puts each class into {parts} splits, but there are fewer rows "
            "than that of "
            f"{shorten(rare)}; add rows, remove the classes, or remove stratifyBy",
        )
    small = [n for n in (validation, test) if 0 < n < len(counts)]
    if small:
        raise Failure(
            "DataInvalid",
            f"a split of {min(small)} rows can't hold each of the {len(counts)} classes; raise "
            "data.split.validation and "
            "test, or remove stratifyBy",
        )
    rest, known = np.arange(rows), np.asarray(labels)
    parted = {"validation": rest[:0], "test": rest[:0]}
    for name, size in (("test", test), ("validation", validation)):
        if size:
            rest, parted[name] = train_test_split(
                rest, test_size=size, stratify=known[rest], random_state=spec.seed, shuffle=True
            )
    if validation + test == 0:
        rest = np.random.RandomState(spec.seed).permutation(rows)
    return {"train": rest, **parted}
