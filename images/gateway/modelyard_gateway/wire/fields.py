"""Header fields: which are a connection's own, and heads that were read before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import httptools

Field = tuple[bytes, bytes]  # a name in small letters, and its value
Named = dict[bytes, bytes]
Made = TypeVar("Made")

MAX_HEAD = 32 << 10  # bytes of a head
MAX_FIELDS = 100
# Fields of one connection only (RFC 9110, section 7.6.1), beside those that Connection names.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
END = b"\r\n\r\n"

_NOTHING: frozenset[bytes] = frozenset()
_EMPTY = frozenset((b"",))
# What Connection mostly says, and what names no field that anybody would send.
_NEEDED = frozenset((b"host",))  # whatever Connection says
_USUAL = frozenset((b"close", b"keep-alive"))

_REMEMBERED = 4096  # heads
_LONGEST = 2048  # bytes of a head that is remembered


class Malformed(Exception):  # noqa: N818 - what the other side sent, not a mistake of ours
    """Not HTTP/1.1, or more of it than is taken. `status` is what a caller is answered."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Remembered(Generic[Made]):
    """What was made of heads, by their bytes: callers and servers repeat theirs, and parsing costs five times the look.

    When there are too many it begins anew: heads that never come again (those with ids) cost some memory, no more.
    """

    def __init__(self, read: Callable[[bytes], Made]) -> None:
        self._read = read
        self._made: dict[bytes, Made] = {}

    def find(self, head: bytes) -> Made | None:
        """What was made of it; None where it is new."""
        return self._made.get(head)

    def __call__(self, head: bytes) -> Made:
        """`head` with its empty line. Raises Malformed."""
        made = self._made.get(head)
        if made is None:
            made = self._read(head)
            if len(head) <= _LONGEST:
                if len(self._made) >= _REMEMBERED:
                    self._made.clear()
                self._made[head] = made
        return made


class Collector:
    """Takes a head from a parser, or the end of one with its trailers."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[Field] = []
        self.complete = self.keep = False
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser | None = None

    def on_url(self, part: bytes) -> None:
        """Of the parser."""
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the parser."""
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Of the parser."""
        self.complete = True
        if self.parser is not None:
            self.keep = self.parser.should_keep_alive()  # after the message it speaks of the next


def feed(
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser, collector: Collector, head: bytes
) -> None:
    """Parses a whole head. Raises Malformed."""
    collector.parser = parser
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # the parser stops there; whether it is taken is not its question
    except httptools.HttpParserError as error:
        raise Malformed(f"this is no HTTP/1.1: {error}") from None
    collector.parser = None  # or the two would hold each other
    if not collector.complete:
        raise Malformed("this is no HTTP/1.1: the head has no end")
    if len(collector.fields) > MAX_FIELDS:
        raise Malformed(f"there are more than {MAX_FIELDS} header fields", 431)


def split(fields: list[Field], named: Mapping[bytes, str], hidden: frozenset[bytes]) -> tuple[Named, bytes]:
    """Fields that are looked at, by their names, and the lines that go to the other side.

    named: how often each of them may be there (`once`; `list`: members of all of them; `last` counts). hidden: names of
    those that don't go on. Raises Malformed.
    """
    found: Named = {}
    passed: list[Field] = []
    for field in fields:
        name = field[0]
        often = named.get(name)
        if often is not None:
            value = field[1].strip(b" \t")
            if name in found:
                if often == "once":
                    raise Malformed(f"{name.decode()} is given more than once")
                if often == "list":
                    value = found[name] + b"," + value
            found[name] = value
        if name not in hidden:
            passed.append(field)
    own = list_tokens(found.get(b"connection")) - _NEEDED
    if not own <= _USUAL:
        passed = [field for field in passed if field[0] not in own]
    return found, b"".join([b"%b: %b\r\n" % field for field in passed])


def read_length(found: Named) -> int | None:
    """Content-Length; None where there is none. Raises Malformed."""
    value = found.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise Malformed("Content-Length must be a number of bytes")
    return int(value)


def read_chunked(found: Named) -> bool:
    """Whether the body comes in chunks; of a length beside them the parser knows. Raises Malformed."""
    coding = found.get(b"transfer-encoding")
    if coding is None:
        return False
    if coding.lower() != b"chunked":
        raise Malformed("of transfer codings only chunked is taken", 501)
    return True


def list_tokens(value: bytes | None) -> frozenset[bytes]:
    """All members of a list, in small letters."""
    if not value:
        return _NOTHING
    return frozenset([token.strip() for token in value.lower().split(b",")]) - _EMPTY
