"""The rows that wait, and which of them make the next batch."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

# Of a batch's budget, what may go to padding. Rows that would need more wait for rows like them.
_PADDING_SHARE = 1 / 8
# Batches from whose worth of rows, the first by turn, the next one is chosen. From more it is a little fuller, while
# rows of rare lengths wait until they are the oldest. Without padding every length is rare: of so few rows hardly two
# are alike.
_WINDOW = 2
_WINDOW_UNPADDED = 32
_GONE = 1024  # rows that were removed and still are in the heap, besides as many as wait


@dataclass(slots=True, eq=False)
class Entry(Generic[Item]):
    """A row that waits. `length` is its tokens, `number` its place by age, `turn` that by which its turn comes."""

    item: Item
    length: int
    number: int
    turn: int


class Line(Generic[Item]):
    """Rows by whose turn it is, and the first of them by length too: of the next batch the very first is always one.

    So none waits for more batches than there are rows of an earlier turn, and older ones of the same.
    `budget` is what a batch may have: its rows times the tokens of the longest. A row that is longer goes alone.
    Without `padding` all rows of a batch have the same length.
    """

    def __init__(self, budget: int, *, padding: bool = True) -> None:
        self.budget = budget
        self._spare = int(budget * _PADDING_SHARE) if padding else 0
        self._worth = budget * (_WINDOW if padding else _WINDOW_UNPADDED)  # tokens of the window
        self._by_age: dict[int, Entry[Item]] = {}  # in the order of their numbers
        self._by_turn: list[tuple[int, int]] = []  # a heap of turn and number: behind the window
        self._window: list[tuple[int, int, Entry[Item]]] = []  # by length and number
        self._window_tokens = 0
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
        self._by_age[entry.number] = entry
        self.tokens += length
        return entry

    def remove(self, entry: Entry[Item]) -> None:
        """Takes a row out, if it still waits."""
        if self._by_age.pop(entry.number, None) is None:
            return
        self.tokens -= entry.length
        place = self._place(entry)
        if place < len(self._window) and self._window[place][2] is entry:
            del self._window[place]
            self._window_tokens -= entry.length
        elif len(self._by_turn) > 2 * len(self._by_age) + _GONE:
            self._by_turn = [order for order in self._by_turn if order[1] in self._by_age]
            heapq.heapify(self._by_turn)

    def take(self) -> list[Entry[Item]]:
        """Takes out the next batch, the shortest row first: the one whose turn it is, and those nearest in length.

        Raises IndexError where nothing waits.
        """
        if not self._by_age:
            raise IndexError("no row waits")
        self._fill_window()
        low = self._place(min((entry for _, _, entry in self._window), key=_order))
        high, padding = low + 1, 0
        while best := self._widen(low, high, self._spare - padding):
            added, low, high = best
            padding += added
        batch = [entry for _, _, entry in self._window[low:high]]
        del self._window[low:high]
        for entry in batch:
            del self._by_age[entry.number]
            self.tokens -= entry.length
            self._window_tokens -= entry.length
        return batch

    def _fill_window(self) -> None:
        """Up to its size, and with all whose turn is before that of one that is in."""
        last = max((_order(entry) for _, _, entry in self._window), default=(-1, -1))
        while self._by_turn and (self._window_tokens < self._worth or self._by_turn[0] < last):
            order = heapq.heappop(self._by_turn)
            entry = self._by_age.get(order[1])
            if entry is not None:
                insort(self._window, (entry.length, entry.number, entry))
                self._window_tokens += entry.length
                last = max(last, order)

    def _place(self, entry: Entry[Item]) -> int:
        # Numbers differ, so that entries are never compared.
        return bisect_left(self._window, (entry.length, entry.number), key=lambda row: row[:2])

    def _widen(self, low: int, high: int, spare: int) -> tuple[int, int, int] | None:
        """The rows low to high - 1 and one more, on the side where it adds less padding: that, and the new bounds.

        None where no row fits on either side.
        """
        longest, rows = self._window[high - 1][0], high - low
        options = []
        if low > 0 and longest * (rows + 1) <= self.budget:
            options.append((longest - self._window[low - 1][0], low - 1, high))
        if high < len(self._window):
            length = self._window[high][0]
            if length * (rows + 1) <= self.budget:
                options.append((rows * (length - longest), low, high + 1))
        fitting = [option for option in options if option[0] <= spare]
        return min(fitting, default=None)


def _order(entry: Entry[Any]) -> tuple[int, int]:
    return entry.turn, entry.number
