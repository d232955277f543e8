"""The head of an answer."""

from __future__ import annotations

from dataclasses import dataclass

import httptools

from modelyard_gateway.wire.fields import (
    Collector,
    Malformed,
    Remembered,
    feed,
    find,
    list_tokens,
    pass_on,
    read_chunked,
    read_length,
)

CHUNKED = -1
UNTIL_CLOSED = -2

# The request's id is said by the gateway.
_DROPPED = frozenset((b"content-length", b"x-request-id", b"x-modelyard-cache"))


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What an answer's head says. Shared by all answers that begin with the same bytes.

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
    fields, status = collector.fields, parser.get_status_code()
    if status == 101 or not 100 <= status <= 599:
        raise Malformed(f"status {status} isn't one that was asked for")
    length = read_length(fields)
    if read_chunked(fields, length):
        length = CHUNKED
    bodiless = status < 200 or status in (204, 304)
    reason = head[13 : head.index(b"\r\n")]
    storing = list_tokens(fields, b"cache-control")
    return ResponseHead(
        status=status,
        length=0 if bodiless else UNTIL_CLOSED if length is None else length,
        prefix=b"HTTP/1.1 %d %b\r\n%b" % (status, reason, pass_on(fields, _DROPPED)),
        framing=b"" if length is None or length < 0 else b"content-length: %d\r\n" % length,
        keep=collector.keep,
        private=bool(storing & {b"no-store", b"private"})
        or any(key in (b"set-cookie", b"vary") for key, _ in fields),
        media=(find(fields, b"content-type") or b"").partition(b";")[0].strip().lower(),
    )


read_response = Remembered(_read)
