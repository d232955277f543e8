"""How rows are dealt out: every class in every split, in proportion, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelyard.api.data import Split
from modelyard_models.failure import Failure
from modelyard_trainer.prepare.split import SPLITS, apportion, split_rows


def split(counts: Sequence[int], **spec: Any) -> tuple[Any, dict[str, Any]]:
    labels: Any = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    labels = labels[np.random.RandomState(3).permutation(len(labels))]
    names = [f"class {i}" for i in range(len(counts))]
    return labels, split_rows(
        len(labels), labels, names, Split.model_validate({"stratifyBy": "label"} | spec)
    )


def table(labels: Any, parts: dict[str, Any], classes: int) -> Any:
    return np.array([np.bincount(labels[parts[s]], minlength=classes) for s in SPLITS]).T


@given(
    st.lists(st.integers(3, 400), min_size=2, max_size=12),
    st.sampled_from([(0.1, 0.0), (0.1, 0.1), (0.25, 0.3), (0.05, 0.6), (0.34, 0.33)]),
)
def test_every_class_is_in_every_split_and_its_share_is_right_to_within_a_row(
    counts: list[int], fractions: tuple[float, float]
) -> None:
    validation, test = fractions
    dealt = apportion(counts, validation, test)
    used = [i for i, share in enumerate((1 - validation - test, validation, test)) if share > 0]
    assert dealt.sum(axis=1).tolist() == counts and (dealt[:, used] >= 1).all() and dealt.min() >= 0
    for count, cells in zip(counts, dealt.tolist(), strict=True):
        quotas = [count * (1 - validation - test), count * validation, count * test]
        # A class so rare that a split would have none of it takes the missing rows from its largest split.
        forced = sum(1 for i in used if quotas[i] < 1)
        assert all(abs(cell - quota) < 1 + forced for cell, quota in zip(cells, quotas, strict=True))
    if all(count * share >= 1 for count in counts for share in fractions if share > 0):
        totals = dealt.sum(axis=0)
        rows = sum(counts)
        assert abs(totals[1] - rows * validation) <= 1.5 and abs(totals[2] - rows * test) <= 1.5


def test_rounding_does_not_go_against_one_split_alone() -> None:
    dealt = apportion([15] * 100, 0.1, 0.0)
    assert dealt.sum(axis=0).tolist() == [1350, 150, 0]
    assert set(dealt[:, 1].tolist()) == {1, 2}


def test_the_splits_are_all_rows_once_and_the_same_for_the_same_seed() -> None:
    labels, parts = split([50, 31, 7], validation=0.1, test=0.2)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(88))
    assert table(labels, parts, 3).tolist() == [[35, 5, 10], [22, 3, 6], [5, 1, 1]]
    _, again = split([50, 31, 7], validation=0.1, test=0.2)
    assert all((parts[s] == again[s]).all() for s in SPLITS)
    _, other = split([50, 31, 7], validation=0.1, test=0.2, seed=1)
    assert (parts["train"] != other["train"]).any()
    assert (np.sort(parts["train"]) != parts["train"]).any(), "the training split is shuffled"


def test_without_held_out_splits_everything_is_trained_on_in_shuffled_order() -> None:
    _, parts = split([4, 4], validation=0.0)
    assert sorted(parts["train"].tolist()) == list(range(8))
    assert len(parts["validation"]) == len(parts["test"]) == 0


@pytest.mark.parametrize(
    ("counts", "spec", "words"),
    [
        ([9, 1], {"validation": 0.3}, "puts each class into 2 splits, which takes as many rows of it, but "
         "'class 1' has 1; add rows"),
        ([9, 2, 1], {"validation": 0.3, "test": 0.3}, "'class 1' has 2, 'class 2' has 1"),
        ([90, 10], {"validation": 0.01}, "data.split.validation of 0.01 is 1 of 100 rows, which can't hold each of "
         "the 2 classes (the rarest: 'class 1', 'class 0'); raise it to 0.02 or more"),
        ([50, 50, 4], {"validation": 0.1, "test": 0.02}, "data.split.test of 0.02 is 2 of 104 rows"),
        ([1] * 9, {"validation": 0.3}, "and 3 classes more"),
        ([1, 1], {"validation": 0.9}, "leave none for training"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_by_class(counts: list[int], spec: dict[str, Any], words: str) -> None:
    with pytest.raises(Failure) as caught:
        split(counts, **spec)
    assert caught.value.reason == "DataInvalid" and words in caught.value.message
