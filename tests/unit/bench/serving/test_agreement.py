"""An answer agrees when every expected member is there and every number is within the tolerance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.bench.serving.agreement import find_difference

numbers = st.floats(-10, 10) | st.just(math.nan) | st.just(math.inf)


@given(st.lists(st.tuples(numbers, numbers), min_size=1), st.floats(0, 1))
@example([(1.0, 1.0), (2.0, math.nan)], 1.0)
@example([(1.0, 1.5), (0.0, 0.0)], 0.5)
def test_vectors_agree_as_numpy_says(pairs: list[tuple[float, float]], tolerance: float) -> None:
    expected, actual = map(list, zip(*pairs, strict=True))
    with np.errstate(invalid="ignore"):
        agrees = bool(np.all(np.abs(np.array(expected) - np.array(actual)) <= tolerance))
    assert (find_difference(expected, actual, tolerance) is None) == agrees


@pytest.mark.parametrize(
    ("expected", "actual", "difference"),
    [
        ({"label": "a"}, {"label": "a", "more": 1}, None),
        ({"label": "a"}, {"label": "b"}, "answer.label is 'b', expected 'a'"),
        ({"label": "a"}, {"score": 1}, "answer has no label: {'score': 1}"),
        ({"label": "a"}, ["a"], "answer is ['a'], expected an object"),
        ([1.0, 2.0], [1.0], "answer has 1 elements, expected 2"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "answer has 3 elements, expected 2"),
        ([1.0, 2.0], 1.0, "answer is 1.0, expected a list of 2"),
        ([1.0, 2.0], [1.0, 2.2], "answer[1] is 2.2, expected 2.0 within 0.1"),
        ([1, 2], [1.0, 2.0], None),
        ([1.0], [True], "answer[0] is True, expected 1.0"),
        ([1.0], ["1.0"], "answer[0] is '1.0', expected 1.0"),
        ({"a": [{"b": 1.0}]}, {"a": [{"b": 3.0}]}, "answer.a[0].b is 3.0, expected 1.0 within 0.1"),
        (None, None, None),
        (None, "", "answer is '', expected None"),
        ("text", "text ", "answer is 'text ', expected 'text'"),
    ],
)  # fmt: skip
def test_a_difference_is_told_with_its_place(expected: Any, actual: Any, difference: str | None) -> None:
    assert find_difference(expected, actual, 0.1) == difference


def test_a_tolerance_of_zero_means_equal() -> None:
    assert find_difference([0.5, 1.0], [0.5, 1.0], 0) is None
    assert find_difference([0.5, 1.0], [0.5, 1.0000001], 0) == "answer[1] is 1.0000001, expected 1.0 within 0"
