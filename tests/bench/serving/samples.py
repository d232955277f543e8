"""One sample for each request, all of them kept: what is told of a measurement is computed from all."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.bench.serving.protocols import Tokens
from tests.bench.serving.wire import KINDS, Answer, Failure

MOST_WORDS = 20


class Sample(NamedTuple):
    """One request. Times are monotonic seconds, NaN where there is none.

    `intended`: when it was due, which is when it was sent but for an open loop; `tokens`: how many; `counted`: 1 where
    the server did not say how many and pieces were counted; `kind`: 0 for a right answer, else 1 + the place in
    wire.KINDS.
    """

    case: float
    intended: float
    sent: float
    first: float
    ended: float
    first_token: float
    last_token: float
    tokens: float
    counted: float
    kind: float

    @property
    def milliseconds(self) -> float:
        """From when it was due to its answer's last byte."""
        return (self.ended - self.intended) * 1e3


FIELDS = Sample._fields
WIDTH = len(FIELDS)


@dataclass
class Samples:
    """`failures`: intended time, kind and words of the first MOST_WORDS requests that failed."""

    values: array[float] = field(default_factory=lambda: array("d"))
    failures: list[tuple[float, str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values) // WIDTH

    def add(self, case: int, intended: float, sent: float, answer: Answer, tokens: Tokens | None) -> None:
        """A request that was answered as expected."""
        if tokens is None:
            rest: tuple[float, ...] = (math.nan, math.nan, 0, 0, 0)
        else:
            rest = (tokens.first, tokens.last, tokens.number, tokens.counted, 0)
        self.values.extend((case, intended, sent, answer.first, answer.last, *rest))

    def add_failure(self, case: int, intended: float, sent: float, ended: float, failure: Failure) -> None:
        """A request that failed."""
        kind = 1 + KINDS.index(failure.kind)
        self.values.extend((case, intended, sent, math.nan, ended, math.nan, math.nan, 0, 0, kind))
        if len(self.failures) < MOST_WORDS:
            self.failures.append((intended, failure.kind, failure.words))

    def __iter__(self) -> Iterator[Sample]:
        values = iter(self.values)
        return map(Sample._make, zip(*[values] * WIDTH, strict=True))

    def column(self, name: str) -> array[float]:
        """The values of one field of Sample."""
        return self.values[FIELDS.index(name) :: WIDTH]

    def extend(self, other: Samples) -> None:
        """Takes those of another process too."""
        self.values.extend(other.values)
        self.failures = sorted(self.failures + other.failures)[:MOST_WORDS]
