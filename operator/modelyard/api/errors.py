"""Pydantic's errors as sentences for the user who wrote the object: which field, what is wrong, what to
write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from modelyard.api.values import NAME_PATTERN, QUANTITY_PATTERN

SHOWN = 3
_VALUE_LIMIT = 60
# Pydantic names the member of a union it tried as if it were a field: limits.cpu.int,
# limits.cpu.constrained-str.
_UNION_TAG = re.compile(
    r"^(int|str|float|bool|constrained-\w+|literal\[.*\]|function-\w+\[.*\]|nullable\[.*\])$"
)

_FIXES: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda c: "is required: add it",
    "extra_forbidden": lambda c: "is not a known field: check its spelling, or remove it",
    "greater_than": lambda c: f"must be above {c['gt']}",
    "greater_than_equal": lambda c: f"must be {c['ge']} or more",
    "less_than": lambda c: f"must be below {c['lt']}",
    "less_than_equal": lambda c: f"must be {c['le']} or less",
    "literal_error": lambda c: f"must be one of {c['expected']}",
    "enum": lambda c: f"must be one of {c['expected']}",
    "string_pattern_mismatch": lambda c: _pattern(c),
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
    "string_too_short": lambda c: f"must have at least {c['min_length']} characters",
    "too_long": lambda c: f"must have at most {c['max_length']} entries",
    "too_short": lambda c: (
        f"must have at least {c['min_length']} entry"
        if c["min_length"] == 1
        else f"must have at least {c['min_length']} entries"
    ),
    "string_type": lambda c: "must be a string: put it in quotes",
    "int_type": lambda c: "must be a whole number",
    "int_parsing": lambda c: "must be a whole number",
    "int_from_float": lambda c: "must be a whole number",
    "float_type": lambda c: "must be a number, without quotes",
    "float_parsing": lambda c: "must be a number, as 2e-5",
    "finite_number": lambda c: "must be a finite number",
    "bool_type": lambda c: "must be true or false",
    "bool_parsing": lambda c: "must be true or false",
    "list_type": lambda c: "must be a list",
    "dict_type": lambda c: "must be a map",
    "model_type": lambda c: "must be a map",
    "value_error": lambda c: str(c["error"]),
}
_PATTERNS = {
    NAME_PATTERN: "must be a name in lower-case letters, digits and '-'",
    QUANTITY_PATTERN: "must be a quantity, as 500m or 16Gi",
}
# The value says nothing more, or is too long to show.
_WITHOUT_VALUE = {
    "missing", "extra_forbidden", "value_error", "list_type", "dict_type", "model_type", "string_too_long"
}  # fmt: skip


def describe(error: ValidationError, path: str = "spec") -> str:
    """One line for a condition's message: `spec.trainer.numNodes: must be 1 or more, not 0`.

    Fields are named as the user wrote them, below `path`. At most three of several errors are shown, and
    how many there are besides.
    """
    fields: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        fields.setdefault(_location(detail, path), []).append(detail)
    lines = [f"{where}: {_sentence(details)}" for where, details in fields.items()]
    rest = len(lines) - SHOWN
    return "; ".join(lines[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def _location(detail: ErrorDetails, path: str) -> str:
    location: Sequence[int | str] = detail["loc"]
    if detail["type"] != "extra_forbidden" and location and _UNION_TAG.match(str(location[-1])):
        location = location[:-1]
    return path + "".join(_step(part) for part in location)


def _step(part: int | str) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if re.fullmatch(r"[\w-]+|\[key\]", part) else f"[{part!r}]"


def _sentence(details: Sequence[ErrorDetails]) -> str:
    # Several for one field are the members of a union: each says what would have been right.
    texts = list(dict.fromkeys(_fix(detail) for detail in details))
    text = " or ".join([texts[0], *(t.removeprefix("must be ") for t in texts[1:])])
    if details[0]["type"] in _WITHOUT_VALUE:
        return text
    value = repr(details[0]["input"])
    return f"{text}, not {value if len(value) <= _VALUE_LIMIT else value[:_VALUE_LIMIT] + '…'}"


def _fix(detail: ErrorDetails) -> str:
    fix = _FIXES.get(detail["type"])
    return fix(detail.get("ctx", {})) if fix else detail["msg"][:1].lower() + detail["msg"][1:]


def _pattern(context: dict[str, Any]) -> str:
    return _PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
