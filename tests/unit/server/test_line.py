"""Which waiting rows make a batch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelyard_server.batching.line import Line


def make_line(lengths: list[int], budget: int = 100, *, padding: bool = True) -> Line[int]:
    """A row of each length, whose turns come in their order."""
    line: Line[int] = Line(budget, padding=padding)
    for index, length in enumerate(lengths):
        line.add(index, length, turn=index)
    return line


def take(line: Line[int]) -> list[tuple[int, int]]:
    return [(entry.item, entry.length) for entry in line.take()]


def test_rows_of_one_length_fill_the_budget_the_oldest_first() -> None:
    line = make_line([10] * 12)
    assert take(line) == [(i, 10) for i in range(10)]
    assert take(line) == [(10, 10), (11, 10)]
    assert len(line) == 0


def test_a_batch_is_sorted_by_length_and_holds_rows_like_its_oldest() -> None:
    line = make_line([20, 90, 21, 5, 19])
    assert take(line) == [(4, 19), (0, 20), (2, 21)]
    assert take(line) == [(1, 90)]


def test_a_batch_has_the_row_whose_turn_it_is_and_of_those_the_oldest() -> None:
    line: Line[int] = Line(20)
    for index, turn in enumerate([5, 9, 2, 2, 7]):
        line.add(index, 20, turn)
    assert [take(line)[0][0] for _ in range(5)] == [2, 3, 0, 4, 1]


def test_rows_far_behind_pass_none_of_another_length() -> None:
    line = make_line([10, *[50] * 8, 10])  # the last one stands behind more than two batches
    assert take(line) == [(0, 10)]
    assert take(line) == [(1, 50), (2, 50)]


def test_a_row_whose_turn_is_before_that_of_others_is_chosen_from_with_them() -> None:
    line: Line[str] = Line(100)
    for turn in range(40):
        line.add("large", 20, turn)
    assert len(line.take()) == 5
    for _ in range(2):
        line.add("small", 10, turn=1)
    line.add("late", 10, turn=99)
    assert [entry.item for entry in line.take()] == ["small", "small"]
    assert [entry.item for entry in line.take()] == ["large"] * 5


def test_a_row_longer_than_the_budget_goes_alone() -> None:
    line = make_line([300, 300, 1])
    assert [take(line) for _ in range(3)] == [[(0, 300)], [(1, 300)], [(2, 1)]]


def test_without_padding_only_rows_of_one_length_share_a_batch() -> None:
    line = make_line([10, 11, 10, 11], padding=False)
    assert take(line) == [(0, 10), (2, 10)]


def test_without_padding_rows_of_one_length_are_looked_for_farther_behind() -> None:
    line = make_line([*range(10, 40), *range(10, 40)], padding=False)  # the second ones behind 735 tokens
    assert take(line) == [(0, 10), (30, 10)]
    line = make_line([10, *[50] * 70, 10], padding=False)
    assert take(line) == [(0, 10)]


def test_rows_of_callers_that_left_take_no_room() -> None:
    line = make_line([50] * 300)
    for turn in range(20):
        for entry in [line.add(-1, 5, turn + place) for place in range(2048)]:
            line.remove(entry)
        assert len(line._by_turn) <= 2 * len(line) + 2048
    assert [take(line)[0][0] for _ in range(150)] == list(range(0, 300, 2))


def test_a_removed_row_is_in_no_batch() -> None:
    line: Line[int] = Line(100)
    entries = [line.add(i, 10, i) for i in range(3)]
    line.remove(entries[1])
    line.remove(entries[1])
    assert (line.tokens, len(line)) == (20, 2)
    assert take(line) == [(0, 10), (2, 10)]
    line.remove(entries[0])
    assert line.tokens == 0


def test_it_is_full_when_its_tokens_fill_a_batch() -> None:
    assert not make_line([50, 49]).is_full
    assert make_line([50, 50]).is_full


def test_an_empty_line_has_no_batch() -> None:
    with pytest.raises(IndexError):
        Line[int](10).take()


lengths = st.lists(st.integers(1, 150), min_size=1, max_size=60)


@given(lengths, st.integers(1, 200), st.booleans())
def test_every_batch_keeps_its_bounds_has_the_oldest_row_and_loses_none(
    rows: list[int], budget: int, padding: bool
) -> None:
    line = make_line(rows, budget, padding=padding)
    seen: list[int] = []
    while len(line):
        oldest = next(iter(line)).item
        batch = take(line)
        items, widths = [item for item, _ in batch], [length for _, length in batch]
        assert oldest in items
        assert widths == sorted(widths)
        assert len(batch) == 1 or max(widths) * len(batch) <= budget
        assert sum(max(widths) - width for width in widths) <= (budget / 8 if padding else 0)
        seen += items
    assert sorted(seen) == list(range(len(rows)))
    assert line.tokens == 0


@given(lengths, st.integers(8, 200))
def test_a_batch_leaves_no_early_row_that_it_has_room_for(rows: list[int], budget: int) -> None:
    line = make_line(rows, budget)
    batch = take(line)
    widths = [length for _, length in batch]
    taken = {item for item, _ in batch}
    early = [index for index in range(len(rows)) if sum(rows[:index]) < 2 * budget]
    assert taken <= set(early)
    left = [rows[index] for index in early if index not in taken]

    def fits(length: int) -> bool:
        longest = max(*widths, length)
        padding = sum(longest - width for width in [*widths, length])
        return longest * (len(widths) + 1) <= budget and padding <= budget // 8

    shorter = max((length for length in left if length <= widths[0]), default=None)
    longer = min((length for length in left if length >= widths[-1]), default=None)
    assert not any(fits(length) for length in (shorter, longer) if length is not None)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30), st.booleans()), max_size=80))
def test_whoever_leaves_meanwhile_the_first_by_turn_is_in_each_batch(
    steps: list[tuple[int, int, bool]],
) -> None:
    line: Line[int] = Line(60)
    waiting: dict[int, Any] = {}
    for index, (length, turn, leaves) in enumerate(steps):
        waiting[index] = line.add(index, length, turn)
        if leaves:
            line.remove(waiting.pop(min(waiting)))
        elif length % 3 == 0:
            first = min(waiting.values(), key=lambda entry: (entry.turn, entry.number))
            batch = line.take()
            assert first in batch
            for entry in batch:
                del waiting[entry.item]
        assert len(line) == len(waiting)
        assert line.tokens == sum(entry.length for entry in waiting.values())
