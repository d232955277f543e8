"""JSON documents: an array of objects, or objects one after the other (JSON Lines, also spread over lines).

The text goes through a window: memory is bounded by the largest object, not by the file. The parser is the
one that reads JSON Lines, so that a value is the same in both formats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from modelyard_models.failure import Failure, shorten

from modelyard_trainer.prepare.decoding import LONGEST, FileText
from modelyard_trainer.prepare.formats.columns import Row, Wanted
from modelyard_trainer.prepare.formats.objects import Objects, describe, explain

_SPACE = re.compile(r"[ \t\r\n]*")
_NEWLINE = re.compile(r"\r\n|\r|\n")
# The parser's position for what the end of the window cut off: within a literal or an escape.
_CUT = 16  # characters
_FORM = 'format json is an array of objects, [{"text": …}, …], or one object a line'


def read(text: FileText, wanted: Wanted) -> Iterator[Row]:
    """Yields the rows. Raises Failure (DataInvalid, ColumnNotFound) naming the line and the entry."""
    window = _Window(text.blocks(), wanted)
    opening = window.peek()
    if not opening:
        raise wanted.fail(f"the file is empty; {_FORM}")
    if opening not in "[{":
        raise wanted.fail(f"the file begins with {opening!r}; {_FORM}", window.line)
    objects = Objects(wanted)
    entries = _read_array(window) if opening == "[" else _look_ahead(_read_sequence(window), wanted)
    for value in entries:
        if not isinstance(value, dict):
            raise window.fail(f"{describe(value)}, no object; {_FORM}")
        yield objects.take(value)
    objects.end()


def _read_array(window: _Window) -> Iterator[Any]:
    window.skip(1)
    if window.peek() != "]":
        while True:
            yield window.take()
            after = window.peek()
            if after != ",":
                break
            window.skip(1)
    after = window.peek()
    if after != "]":
        raise (
            window.fail("the file ends within the array; upload it again")
            if not after
            else window.fail(f"{after!r} where ',' or the array's ']' belongs; correct the file")
        )
    window.skip(1)
    if rest := window.peek():
        raise window.fail(f"{rest!r} after the array's end; keep one array a file")


def _read_sequence(window: _Window) -> Iterator[Any]:
    while window.peek():
        yield window.take()


def _look_ahead(entries: Iterator[Any], wanted: Wanted) -> Iterator[Any]:
    """The same entries. One object alone may be a row, or hold the rows, or be no data."""
    first = list(islice(entries, 2))
    if len(first) == 1:
        _refuse_holder(first[0], wanted)
    yield from chain(first, entries)


def _refuse_holder(value: dict[str, Any], wanted: Wanted) -> None:
    if wanted.columns.text in value:
        return
    held = [name for name, inner in value.items() if isinstance(inner, list) and inner]
    if held:
        raise wanted.fail(
            f"the file is one object with the members {shorten(value)}; if its rows are in {held[0]!r}, make "
            f"that array the whole file (jq '.{held[0]}'), as {_FORM}"
        )
    raise wanted.fail(
        f"the file is one object with the members {shorten(value)}, but none called {wanted.columns.text!r}; if "
        "it is no data, set data.sources[].format or name the files by a glob, else set "
        "data.sources[].columns.text"
    )


class _Window:
    """A part of the text, moved on as values are taken."""

    def __init__(self, blocks: Iterator[str], wanted: Wanted) -> None:
        self._blocks, self._wanted = blocks, wanted
        self._decoder = json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False
        self._lines = 0  # line ends before the window
        self._entries = 0

    @property
    def line(self) -> int:
        """The line that is being read, from 1."""
        return self._lines + len(_NEWLINE.findall(self._text, 0, self._at)) + 1

    def fail(self, what: str, line: int | None = None) -> Failure:
        return self._wanted.fail(f"entry {self._entries}: {what}", line or self.line)

    def peek(self) -> str:
        """The next character that isn't space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, characters: int) -> None:
        self._at += characters

    def take(self) -> Any:
        """The next value. Raises Failure (DataInvalid)."""
        self._entries += 1
        if not self.peek():
            raise self.fail("the file ends where a value belongs; upload it again")
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._may_be_cut(error) and not self._ended:
                    self._more()
                    continue
                line = self._lines + len(_NEWLINE.findall(self._text, 0, error.pos)) + 1
                raise self.fail(f"no JSON ({error.msg})", line) from error
            except (ValueError, RecursionError) as error:
                raise self.fail(f"no JSON ({explain(error)})") from error
            if end == len(self._text) and self._text[end - 1] not in '}]"' and not self._ended:
                self._more()
                continue  # a number may go on
            self._at = end
            return value

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.pos >= len(self._text) - _CUT or error.msg.startswith("Unterminated string")

    def _more(self) -> bool:
        """Adds a piece of at least the window's own length, so that growing stays linear."""
        if self._ended:
            return False
        # A CR may be half of a CRLF, which counts once.
        kept = int(self._text.endswith("\r", 0, self._at))
        self._lines += len(_NEWLINE.findall(self._text, 0, self._at - kept))
        pieces, size = [self._text[self._at - kept :]], 0
        self._at = kept
        if len(pieces[0]) > LONGEST:
            raise self.fail(f"the value has not ended after {LONGEST >> 20} Mi characters; {_FORM}")
        while size <= len(pieces[0]):
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
                break
            pieces.append(block)
            size += len(block)
        self._text = "".join(pieces)
        return size > 0
