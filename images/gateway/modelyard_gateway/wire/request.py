"""The head of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import httptools

from modelyard_gateway.wire.fields import (
    Collector,
    Field,
    Malformed,
    Remembered,
    feed,
    find,
    list_tokens,
    pass_on,
    read_chunked,
    read_length,
)

CHUNKED = -1  # the length of a body that tells its end itself

_TARGET = re.compile(rb"/[!-\"$-~]*")  # RFC 9112's origin-form: no fragment, nothing but visible ASCII
_ABSOLUTE = re.compile(rb"(?i:https?)://[^/?#]*")
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
# W3C Trace Context: of the version that we know nothing may follow the flags.
_TRACE = re.compile(
    rb"(?!ff)(?:00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|(?!00)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?)"
)
_ZEROS = re.compile(rb"..-(?:0{32}-.{16}|.{32}-0{16})-")
# A length is written anew; the others are ours to say.
_DROPPED = frozenset((b"content-length", b"expect", b"x-request-id", b"traceparent"))


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a request's head says. Shared by all requests that begin with the same bytes.

    method, path: for people and rules, the path without its query; target: path and query.
    length: of the body in bytes; CHUNKED.
    prefix: the head for a server, up to what each request has of its own. framing: the line for a body of this length.
    id, trace: the caller's, if they can be used.
    secret: after `Authorization: Bearer`.
    stored: what Cache-Control says of stored answers (tokens).
    """

    method: str
    path: str
    target: bytes
    length: int
    prefix: bytes
    framing: bytes
    keep: bool
    modern: bool
    expects: bool
    id: bytes | None
    trace: bytes | None
    secret: bytes | None
    stored: frozenset[bytes]
    encoded: bool


def make_reader(hidden: frozenset[bytes] = frozenset()) -> Remembered[RequestHead]:
    """Reads heads; fields named in `hidden` (small letters) are not for servers."""
    return Remembered(partial(_read, _DROPPED | hidden))


def _read(dropped: frozenset[bytes], head: bytes) -> RequestHead:
    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    feed(parser, collector, head)
    fields, method, version = collector.fields, parser.get_method(), parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise Malformed(f"HTTP/{version} isn't spoken here; HTTP/1.1 is", 505)
    target = _read_target(method, collector.target)
    length, modern = _read_body(fields, version), version == "1.1"
    if find(fields, b"host") is None and modern:
        raise Malformed("there is no Host")
    expectation = find(fields, b"expect")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise Malformed("of expectations only 100-continue is met", 417)
    _check_upgrade(fields)
    name, trace = _read_ids(fields)
    if trace is None:
        dropped |= {b"tracestate"}
    path = target.partition(b"?")[0].decode("ascii")
    return RequestHead(
        method=method.decode("ascii"),
        path=path,
        target=target,
        length=length,
        prefix=b"%b %b HTTP/1.1\r\n%b" % (method, target, pass_on(fields, dropped)),
        framing=_frame(fields, length),
        keep=collector.keep,
        modern=modern,
        expects=expectation is not None and modern and length != 0,
        id=name,
        trace=trace,
        secret=_read_secret(fields),
        stored=frozenset(list_tokens(fields, b"cache-control")),
        encoded=find(fields, b"content-encoding") is not None,
    )


def _read_target(method: bytes, target: bytes) -> bytes:
    if method == b"CONNECT":
        raise Malformed("this is no tunnel", 501)
    absolute = _ABSOLUTE.match(target)
    if absolute:
        target = target[absolute.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    if not _TARGET.fullmatch(target):
        raise Malformed("the path must begin with / and be visible ASCII; encode the rest")
    return target


def _read_body(fields: list[Field], version: str) -> int:
    length = read_length(fields)
    if not read_chunked(fields, length):
        return length or 0
    if version == "1.0":
        raise Malformed("HTTP/1.0 has no chunks")
    return CHUNKED


def _frame(fields: list[Field], length: int) -> bytes:
    if length == CHUNKED:
        return b"transfer-encoding: chunked\r\n"
    # A length of 0 is said where the caller said it: a POST has one, a GET has none.
    return b"content-length: %d\r\n" % length if find(fields, b"content-length") is not None else b""


def _check_upgrade(fields: list[Field]) -> None:
    # Whoever would rather speak HTTP/2 is content with HTTP/1.1; a WebSocket isn't.
    wanted = list_tokens(fields, b"upgrade") - {b"h2c"}
    if wanted and b"upgrade" in list_tokens(fields, b"connection"):
        raise Malformed("connections aren't upgraded here", 501)


def _read_ids(fields: list[Field]) -> tuple[bytes | None, bytes | None]:
    """Request id and trace context. Those that can't be used count as absent: they are nobody's reason to fail."""
    values = dict(fields)
    name, trace = values.get(b"x-request-id"), values.get(b"traceparent")
    if name is not None and not _SANE_ID.fullmatch(name):
        name = None
    if trace is not None and (not _TRACE.fullmatch(trace) or _ZEROS.match(trace)):
        trace = None
    return name, trace


def _read_secret(fields: list[Field]) -> bytes | None:
    scheme, _, secret = (find(fields, b"authorization") or b"").partition(b" ")
    return secret.strip() if scheme.lower() == b"bearer" else None
