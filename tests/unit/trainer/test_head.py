"""Whose classes a head tells apart."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from modelyard_trainer.preflight.head import choose_head, read_labels


@pytest.mark.parametrize(
    ("base", "labels", "order", "kept"),
    [
        (None, ("a", "b"), ("a", "b"), False),
        (("b", "a"), ("a", "b"), ("b", "a"), True),
        (("POSITIVE", "NEGATIVE"), ("negative", "positive"), ("positive", "negative"), True),
        (("spam", "ham"), ("a", "b"), ("a", "b"), False),
        (("a", "b", "c"), ("a", "b"), ("a", "b"), False),
        (("a", "b"), ("a", "b", "c"), ("a", "b", "c"), False),
        (("LABEL_0", "LABEL_1"), ("0", "1"), ("0", "1"), True),
        (("LABEL_0", "LABEL_1"), ("negative", "positive"), ("negative", "positive"), False),
        (("a", "A"), ("A", "a"), ("a", "A"), True),
        (("a", "A"), ("a", "b"), ("a", "b"), False),
        (("x", "X "), ("x", "y"), ("x", "y"), False),
    ],
)
def test_a_head_is_kept_for_its_own_classes_only(
    base: tuple[str, ...] | None, labels: tuple[str, ...], order: tuple[str, ...], kept: bool
) -> None:
    head = choose_head(base, labels)
    assert (head.labels, head.kept) == (order, kept)
    assert [head.labels[place] for place in head.places(labels)] == list(labels)


@pytest.mark.parametrize(
    ("named", "labels"),
    [
        ({1: "b", 0: "a"}, ("a", "b")),
        ({"1": "b", "0": "a"}, ("a", "b")),
        ({1: "a", 2: "b"}, ()),
        ({0: "a", 2: "b"}, ()),
        (None, ()),
    ],
)
def test_the_order_of_a_bases_classes_is_read_and_never_guessed(
    named: dict[int | str, str] | None, labels: tuple[str, ...]
) -> None:
    config = SimpleNamespace(id2label=named)
    assert read_labels(config) == labels
    assert choose_head(read_labels(config), ("b", "a")).kept == bool(labels)
