"""The head of an answer."""

from __future__ import annotations

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
# The request's id and the cache are the gateway's to speak of.
_DROPPED = HOP_BY_HOP | {b"content-length", b"x-request-id", b"x-modelyard-cache"}


@dataclass(slots=True)  # frozen ones take three times as long to make
class ResponseHead:
    """What an answer's head says. Shared by all answers that begin with the same bytes: not to be changed.

    length: of the body in bytes; CHUNKED; UNTIL_CLOSED. `framing`: the line that tells a length, if it does.
    prefix: status line and fields for the caller.
    keep: whether the server's connection can be used again.
    private: not to be kept for others.
    """

    status: int
    length: int
    prefix: bytes
    framing: bytes
    keep: bool
    private: bool
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
    private = list_tokens(found.get(b"cache-control")) & {b"no-store", b"private"}
    return ResponseHead(
        status=status,
        length=0 if bodiless else UNTIL_CLOSED if length is None else length,
        prefix=b"HTTP/1.1 %d %b\r\n%b" % (status, head[13 : head.index(b"\r\n")], lines),
        framing=b"" if length is None or length < 0 else b"content-length: %d\r\n" % length,
        keep=collector.keep,
        private=bool(private) or b"set-cookie" in found or b"vary" in found,
        media=found.get(b"content-type", b"").partition(b";")[0].strip().lower(),
    )


read_response = Remembered(_read)
