"""The rows that wait, and which of them make the next batch."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

# Of a batch's budget, what may go to padding. Rows that would need more wait for rows like them.
_PADDING_SHARE = 1 / 8


@dataclass(slots=True, eq=False)
class Entry(Generic[Item]):
    """A row that waits. `length` is its tokens, `number` its place by age, `turn` that by which its turn comes."""

    item: Item
    length: int
    number: int
    turn: int


class Line(Generic[Item]):
    """Rows by length, and by whose turn it is: of the next batch that row is always one.

    So none waits for more batches than there are rows of an earlier turn, and older ones of the same.
    `budget` is what a batch may have: its rows times the tokens of the longest. A row that is longer goes alone.
    Without `padding` all rows of a batch have the same length.
    """

    def __init__(self, budget: int, *, padding: bool = True) -> None:
        self.budget = budget
        self._spare = int(budget * _PADDING_SHARE) if padding else 0
        self._by_length: list[tuple[int, int, Entry[Item]]] = []
        self._by_age: dict[int, Entry[Item]] = {}  # in the order of their numbers
        self._by_turn: list[tuple[int, int]] = []  # a heap of turn and number; of rows that have gone too
        self._numbers = 0
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._by_age)

    def __iter__(self) -> Iterator[Entry[Item]]:
        """The rows, the oldest first."""
        return iter(self._by_age.values())

    @property
    def is_full(self) -> bool:
        """Whether what waits fills a batch."""
        return self.tokens >= self.budget

    def add(self, item: Item, length: int, turn: int) -> Entry[Item]:
        """Puts a row in."""
        entry = Entry(item, length, self._numbers, turn)
        self._numbers += 1
        heapq.heappush(self._by_turn, (turn, entry.number))
        insort(self._by_length, (length, entry.number, entry))
        self._by_age[entry.number] = entry
        self.tokens += length
        return entry

    def remove(self, entry: Entry[Item]) -> None:
        """Takes a row out, if it still waits."""
        if self._by_age.pop(entry.number, None) is not None:
            del self._by_length[self._place(entry)]
            self.tokens -= entry.length

    def take(self) -> list[Entry[Item]]:
        """Takes out the next batch, the shortest row first: the one whose turn it is, and those nearest in length.

        Raises IndexError where nothing waits.
        """
        if not self._by_age:
            raise IndexError("no row waits")
        low = self._place(self._find_next())
        high, padding = low + 1, 0
        while best := self._widen(low, high, self._spare - padding):
            added, low, high = best
            padding += added
        batch = [entry for _, _, entry in self._by_length[low:high]]
        del self._by_length[low:high]
        for entry in batch:
            del self._by_age[entry.number]
            self.tokens -= entry.length
        return batch

    def _find_next(self) -> Entry[Item]:
        while (entry := self._by_age.get(self._by_turn[0][1])) is None:
            heapq.heappop(self._by_turn)
        return entry

    def _place(self, entry: Entry[Item]) -> int:
        # Numbers differ, so that entries are never compared.
        return bisect_left(self._by_length, (entry.length, entry.number), key=lambda row: row[:2])

    def _widen(self, low: int, high: int, spare: int) -> tuple[int, int, int] | None:
        """The rows low to high - 1 and one more, on the side where it adds less padding: that, and the new bounds.

        None where no row fits on either side.
        """
        longest, rows = self._by_length[high - 1][0], high - low
        options = []
        if low > 0 and longest * (rows + 1) <= self.budget:
            options.append((longest - self._by_length[low - 1][0], low - 1, high))
        if high < len(self._by_length):
            length = self._by_length[high][0]
            if length * (rows + 1) <= self.budget:
                options.append((rows * (length - longest), low, high + 1))
        fitting = [option for option in options if option[0] <= spare]
        return min(fitting, default=None)
