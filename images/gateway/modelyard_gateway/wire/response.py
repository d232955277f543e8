"""The head of an answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import httptools

from modelyard_gateway.wire.fields import (
    HOP_BY_HOP,
    Collector,
    Malformed,
    Remembered,
    feed,
    list_tokens,
    read_chunked,
    read_length,
    split,
)

CHUNKED = -1
UNTIL_CLOSED = -2

_NAMED = {
    b"cache-control": "list",
    b"connection": "list",
    b"content-length": "once",
    b"content-type": "last",
    b"set-cookie": "last",
    b"transfer-encoding": "once",
    b"vary": "last",
}
_PRIVATE = frozenset((b"no-cache", b"no-store", b"private"))
# The request's id and the cache are the gateway's to speak of.
_DROPPED = HOP_BY_HOP | {b"content-length", b"x-request-id", b"x-modelyard-cache"}


@dataclass(slots=True)  # frozen ones take three times as long to make
class ResponseHead:
    """What an answer's head says. Shared by all answers that begin with the same bytes: not to be changed.

    length: of the body in bytes; CHUNKED; UNTIL_CLOSED. `framing`: the line that tells a length, if it does and may.
    prefix: status line and fields for the caller.
    keep: whether the server's connection can be used again.
    private: not to be kept for others; lasts: for how many seconds it may be, at most.
    """

    status: int
    length: int
    prefix: bytes
    framing: bytes
    keep: bool
    private: bool
    lasts: float
    media: bytes


def _read(head: bytes) -> ResponseHead:
    collector = Collector()
    parser = httptools.HttpResponseParser(collector)
    feed(parser, collector, head)
    status = parser.get_status_code()
    if status == 101 or not 100 <= status <= 599:
        raise Malformed(f"status {status} isn't one that was asked for")
    found, lines = split(collector.fields, _NAMED, _DROPPED)
    length = read_length(found)
    if read_chunked(found):
        length = CHUNKED
    bodiless = status < 200 or status in (204, 304)
    told = dict(token.partition(b"=")[::2] for token in list_tokens(found.get(b"cache-control")))
    lasts = _read_seconds(told.get(b"s-maxage", told.get(b"max-age")))
    return ResponseHead(
        status=status,
        length=0 if bodiless else UNTIL_CLOSED if length is None else length,
        prefix=b"HTTP/1.1 %d %b\r\n%b" % (status, head[13 : head.index(b"\r\n")], lines),
        framing=b"" if length is None or length < 0 or status == 204 else b"content-length: %d\r\n" % length,
        keep=collector.keep,
        private=lasts <= 0 or b"set-cookie" in found or b"vary" in found or not _PRIVATE.isdisjoint(told),
        lasts=lasts,
        media=found.get(b"content-type", b"").partition(b";")[0].strip().lower(),
    )


def _read_seconds(value: bytes | None) -> float:
    """No limit where none is told; none that can't be read is passed."""
    if value is None:
        return math.inf
    value = value.strip(b'"')
    return float(value) if value.isdigit() else 0.0


read_response = Remembered(_read)
