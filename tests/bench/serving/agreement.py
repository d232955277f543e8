"""Whether an answer is the one expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import sub
from typing import Any

SHOWN = 80


def find_difference(expected: Any, actual: Any, tolerance: float, where: str = "answer") -> str | None:
    """Where and how `actual` (parsed JSON) differs; None: it agrees.

    Of an object, the expected members are compared, and others may be there. Numbers agree within the tolerance, which
    is absolute; all else when equal. NaN agrees with nothing.
    """
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping):
            return f"{where} is {_show(actual)}, expected an object"
        for name, value in expected.items():
            if name not in actual:
                return f"{where} has no {name}: {_show(actual)}"
            found = find_difference(value, actual[name], tolerance, f"{where}.{name}")
            if found:
                return found
        return None
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        if not isinstance(actual, list):
            return f"{where} is {_show(actual)}, expected a list of {len(expected)}"
        if len(actual) != len(expected):
            return f"{where} has {len(actual)} elements, expected {len(expected)}"
        if _close(expected, actual, tolerance):
            return None
        differences = (
            find_difference(one, other, tolerance, f"{where}[{index}]")
            for index, (one, other) in enumerate(zip(expected, actual, strict=True))
        )
        return next(filter(None, differences), None)
    if _number(expected) and _number(actual):
        agrees = abs(expected - actual) <= tolerance
        return None if agrees else f"{where} is {actual}, expected {expected} within {tolerance:g}"
    agrees = type(expected) is type(actual) and expected == actual
    return None if agrees else f"{where} is {_show(actual)}, expected {_show(expected)}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _close(expected: Sequence[Any], actual: list[Any], tolerance: float) -> bool:
    # Vectors, fast: a list of one type has no bool among its numbers. False says nothing yet.
    if {*map(type, expected), *map(type, actual)} != {float}:
        return False
    return all(map(float(tolerance).__ge__, map(abs, map(sub, expected, actual))))


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
