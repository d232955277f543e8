"""The metrics that a program tells of. It may tell anything; names are made harmless, and their number is bounded."""

import math
from typing import Any, Dict, Optional

from modelyard.contract import codes

from modelyard_agent.files import say

MOST = 1000  # of which each is a series of Prometheus
MOST_TOLD = 256  # to the operator, which takes answers of so many KiB
LONGEST = 128


class Metrics:
    """The last value of each, those that decide or are looked at before all others."""

    def __init__(self, gate_metric: Optional[str] = None) -> None:
        self._first = (*([gate_metric] if gate_metric else ()), *codes.FIRST_METRICS)
        self._values: Dict[str, float] = {}
        self._full = False

    def update(self, reported: Dict[Any, Any]) -> None:
        """Take values in. What is no number is left out, and so are names beyond MOST."""
        for given, value in reported.items():
            name, number = _clean(str(given)), _read_number(value)
            if number is None:
                continue
            if name in self._values or name in self._first or len(self._values) < MOST:
                self._values[name] = number
            elif not self._full:
                self._full = True
                say(
                    "the program tells of more than {} metrics; {!r} and later ones are left out".format(
                        MOST, name
                    )
                )

    def all(self) -> Dict[str, float]:
        """All of them, NaN and infinities included."""
        rest = sorted(name for name in self._values if name not in self._first)
        return {name: self._values[name] for name in (*self._first, *rest) if name in self._values}

    def told(self) -> Dict[str, float]:
        """The finite ones, MOST_TOLD of them."""
        finite = [(name, value) for name, value in self.all().items() if math.isfinite(value)]
        return dict(finite[:MOST_TOLD])


def _clean(name: str) -> str:
    # Halves of surrogate pairs, which JSON can hold, are nothing that can be sent.
    return name[:LONGEST].encode("utf-8", "replace").decode("utf-8")


def _read_number(value: object) -> Optional[float]:
    if not isinstance(value, (int, float)) or value is True:
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return None
