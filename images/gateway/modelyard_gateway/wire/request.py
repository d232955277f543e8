"""The head of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import httptools

from modelyard_gateway.wire.fields import (
    HOP_BY_HOP,
    Collector,
    Malformed,
    Named,
    Remembered,
    feed,
    list_tokens,
    read_chunked,
    read_length,
    split,
)

_SOME_HOST = b"localhost"  # of HTTP/1.0, which needs none
CHUNKED = -1  # the length of a body that tells its end itself

_TARGET = re.compile(rb"/[!-\"$-~]*")  # RFC 9112's origin-form: no fragment, nothing but visible ASCII
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)")
_HOST = re.compile(rb"[A-Za-z0-9._~%:\[\]-]+")  # and no name of a user before it
_IDS = re.compile(rb"\r\n(?i:(x-request-id|traceparent|tracestate)):([\t -~]*)(?=\r\n)")
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
# W3C Trace Context: of the version that we know nothing may follow the flags.
_TRACE = re.compile(
    rb"(?!ff)(?:00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|(?!00)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?)"
)
_ZEROS = re.compile(rb"..-(?:0{32}-.{16}|.{32}-0{16})-")
# By these servers know who asks.
_CREDENTIALS = frozenset((b"authorization", b"cookie", b"x-api-key", b"api-key"))
_NAMED = dict.fromkeys(_CREDENTIALS, "last") | {
    b"authorization": "once",
    b"cache-control": "list",
    b"connection": "list",
    b"content-encoding": "list",
    b"content-length": "once",
    b"expect": "once",
    b"host": "once",
    b"transfer-encoding": "once",
    b"upgrade": "list",
}
# A length is written anew; the others are the gateway's to say.
_DROPPED = HOP_BY_HOP | {b"content-length", b"expect", b"x-request-id", b"traceparent", b"tracestate"}


@dataclass(slots=True)  # frozen ones take three times as long to make
class RequestHead:
    """What a request's head says. Shared by all requests that begin with the same bytes: not to be changed.

    method, path: for people and rules, the path without its query; target: path and query.
    length: of the body in bytes; CHUNKED.
    prefix: the head for a server, up to what each request has of its own. framing: the line for a body of this length.
    secret: after `Authorization: Bearer`. named: servers are told who asks.
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
    secret: bytes | None
    named: bool
    stored: frozenset[bytes]
    encoded: bool


class Reader:
    """Reads heads; fields named in `hidden` (small letters) are not for servers."""

    def __init__(self, hidden: frozenset[bytes] = frozenset()) -> None:
        self._read = Remembered(partial(_read, _DROPPED | hidden))

    def __call__(self, head: bytes) -> tuple[RequestHead, bytes | None, bytes | None]:
        """The head, and the caller's request id and trace context, if they can be used. Raises Malformed.

        Those two differ from request to request, where a head's rest doesn't: without them it is known.
        """
        known = self._read.find(head)
        if known is not None:
            return known, None, None
        ids = {name.lower(): value.strip() for name, value in _IDS.findall(head)}
        if not ids:
            return self._read(head), None, None
        # One that can't be used counts as absent: it is nobody's reason to fail.
        name, trace, state = ids.get(b"x-request-id"), ids.get(b"traceparent"), ids.get(b"tracestate")
        if name is not None and not _SANE_ID.fullmatch(name):
            name = None
        if trace is not None and (not _TRACE.fullmatch(trace) or _ZEROS.match(trace)):
            trace = None
        if trace is not None and state:
            trace = b"%b\r\ntracestate: %b" % (trace, state)
        return self._read(_IDS.sub(b"", head)), name, trace


def _read(dropped: frozenset[bytes], head: bytes) -> RequestHead:
    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    feed(parser, collector, head)
    method, version = parser.get_method(), parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise Malformed(f"HTTP/{version} isn't spoken here; HTTP/1.1 is", 505)
    modern = version == "1.1"
    target, authority = _read_target(method, collector.target)
    found, lines = split(collector.fields, _NAMED, dropped if authority is None else dropped | {b"host"})
    length = read_length(found)
    if read_chunked(found):
        if not modern:
            raise Malformed("HTTP/1.0 has no chunks")
        framing, length = b"transfer-encoding: chunked\r\n", CHUNKED
    else:
        # A length of 0 is said where the caller said it: a POST has one, a GET has none.
        framing, length = (b"", 0) if length is None else (b"content-length: %d\r\n" % length, length)
    if modern and b"host" not in found:
        raise Malformed("there is no Host")
    if authority is None and b"host" not in found:
        authority = _SOME_HOST
    if authority is not None:
        lines = b"host: %b\r\n%b" % (authority, lines)
    expectation = found.get(b"expect")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise Malformed("of expectations only 100-continue is met", 417)
    _check_upgrade(found)
    return RequestHead(
        method=method.decode("ascii"),
        path=target.partition(b"?")[0].decode("ascii"),
        target=target,
        length=length,
        prefix=b"%b %b HTTP/1.1\r\n%b" % (method, target, lines),
        framing=framing,
        keep=collector.keep,
        modern=modern,
        expects=expectation is not None and modern and length != 0,
        secret=_read_secret(found.get(b"authorization")),
        named=not (_CREDENTIALS - dropped).isdisjoint(found),
        stored=list_tokens(found.get(b"cache-control")),
        encoded=b"content-encoding" in found,
    )


def _read_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Path and query; of a whole URL its host, too, which Host must not contradict (RFC 9112, section 3.2.2)."""
    if method == b"CONNECT":
        raise Malformed("this is no tunnel", 501)
    absolute = _ABSOLUTE.match(target)
    authority = None
    if absolute:
        authority = absolute[1]
        if not _HOST.fullmatch(authority):
            raise Malformed("the URL's host is none")
        target = target[absolute.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    if not _TARGET.fullmatch(target):
        raise Malformed("the path must begin with / and be visible ASCII; encode the rest")
    return target, authority


def _check_upgrade(found: Named) -> None:
    # Whoever would rather speak HTTP/2 is content with HTTP/1.1; a WebSocket isn't.
    if list_tokens(found.get(b"upgrade")) - {b"h2c"} and b"upgrade" in list_tokens(found.get(b"connection")):
        raise Malformed("connections aren't upgraded here", 501)


def _read_secret(credentials: bytes | None) -> bytes | None:
    scheme, _, secret = (credentials or b"").partition(b" ")
    return secret.strip() if scheme.lower() == b"bearer" else None
