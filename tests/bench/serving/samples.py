"""One sample for each request, all of them kept: what is told of a measurement is computed from all."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field

from tests.bench.serving.protocols import Tokens
from tests.bench.serving.wire import KINDS, Answer, Failure

# Times are monotonic seconds, NaN where there is none. `intended`: when the request was due, which is when it was sent
# but for an open loop. `kind`: 0 for a right answer, else 1 + the place in wire.KINDS. `tokens`: how many;
# `counted`: 1 where the server did not say how many and pieces were counted.
FIELDS = (
    "case", "intended", "sent", "first", "ended", "first_token", "last_token", "tokens", "counted", "kind"
)  # fmt: skip
WIDTH = len(FIELDS)
MOST_WORDS = 20


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

    def column(self, name: str) -> array[float]:
        """The values of one of FIELDS."""
        return self.values[FIELDS.index(name) :: WIDTH]

    def extend(self, other: Samples) -> None:
        """Takes those of another process too."""
        self.values.extend(other.values)
        self.failures = sorted(self.failures + other.failures)[:MOST_WORDS]
