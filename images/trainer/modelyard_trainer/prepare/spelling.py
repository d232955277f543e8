"""One value, one spelling, whatever the format: how texts and labels are written that files hold as other things.

A number is written as JSON writes it, a whole one without point (1.0 is 1); truth is `true` or `false`. CSV
has nothing but text, so a *label* that is text takes the same spelling where it can mean nothing else: True
and TRUE are true, 1.0 is 1. All other text stays as it stands: 001, 1.10, 1e3 and yes are names.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+", re.ASCII)
_EXACT = 1e16  # beyond it, floats are no longer all whole numbers that one can name
_TRUTH = {word: word.lower() for word in ("True", "TRUE", "False", "FALSE")}


def spell_text(value: Any) -> str:
    """A value as text; "" for null and for what is not a number. Raises TypeError for what is no text."""
    if value is None:
        return ""
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which is no character and can't be stored.
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return _spell_int(value)
    if isinstance(value, float):
        if value != value:
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, Decimal):
        return _spell_decimal(value)
    if isinstance(value, bytes):  # parquet files of older writers don't say that their strings are text
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise TypeError("bytes that are no UTF-8") from error
    raise TypeError(f"a {type(value).__name__}")


def spell_label(value: Any) -> str:
    """A class's name, without space around it. Raises TypeError as `spell_text`."""
    text = spell_text(value).strip()
    if text in _TRUTH:
        return _TRUTH[text]
    whole = _WHOLE.fullmatch(text)
    return (whole[1] if whole[1] != "-0" else "0") if whole else text


def _spell_int(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python writes in decimal
        raise TypeError("a number of more than 4,300 digits") from None


def _spell_decimal(value: Decimal) -> str:
    if not value.is_finite():
        return ""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
