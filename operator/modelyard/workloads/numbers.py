"""Numbers as people read them in a status."""

from __future__ import annotations

from math import isfinite
from typing import overload


@overload
def shorten(value: None, digits: int) -> None: ...
@overload
def shorten(value: float | None, digits: int) -> float | None: ...


def shorten(value: float | None, digits: int) -> float | None:
    """The value in so many significant digits; None where it is none, or not finite."""
    return float(f"{value:.{digits}g}") if value is not None and isfinite(value) else None
