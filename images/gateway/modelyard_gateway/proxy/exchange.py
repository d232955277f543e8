"""One request and its answer: the record that everything about it hangs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelyard_gateway.balance.servers import Revision, Server
from modelyard_gateway.wire.chunks import LAST, encode
from modelyard_gateway.wire.request import CHUNKED, RequestHead

if TYPE_CHECKING:
    from modelyard_gateway.cache.store import Flight
    from modelyard_gateway.local.routes import Answer
    from modelyard_gateway.proxy.client import Client
    from modelyard_gateway.proxy.upstream import Upstream


class Exchange:
    """From the end of a request's head to the end of its answer.

    open: until the caller has its answer, or is gone.
    began: monotonic seconds.
    pieces: what is kept of the body; all of it as long as `repeatable`. size: bytes of it that came. whole: all came.
    stored: bytes of it that count among those kept by the gateway.
    own: how the gateway answers it by itself. proceeded: it has asked for a server (or for a kept answer).
    server: that has it, or had it last; upstream: the connection. tried: servers that failed, or are not to get it.
    given: since when the server has it; heard: how often anything had come from it by then.
    repeats: how often it was sent again; broken: of them, after a server broke off.
    status: of the answer, once that has begun. streaming: its parts come whenever they like. moved: since that was last
    looked at, one came.
    revision: whose turn it was, where that was asked before a server was.
    flight: others may wait for its answer. following: it waits for the answer of another.
    """

    # Defaults of the class: most requests change few of them, and each assignment is paid for by all.
    caller: str | None = None
    open = True
    size = stored = 0
    whole = False
    repeatable = True
    own: Callable[[], Answer] | None = None
    proceeded = False
    server: Server | None = None
    upstream: Upstream | None = None
    tried: tuple[Server, ...] = ()
    given = 0.0
    heard = 0
    repeats = broken = 0
    status = 0
    streaming = moved = False
    revision: Revision | None = None
    flight: Flight | None = None
    following: Flight | None = None
    cached = ""

    def __init__(self, client: Client, head: RequestHead, began: float, id: bytes, trace: bytes) -> None:
        self.client = client
        self.head = head
        self.began = began
        self.id = id
        self.trace = trace
        self.pieces: list[bytes] = []

    def encode(self) -> bytes:
        """The request for a server, as far as it came."""
        head = self.head
        framing = head.framing
        if head.length == CHUNKED and self.whole:
            framing = b"content-length: %d\r\n" % self.size
        pieces = self.pieces
        begin = b"%b%bx-request-id: %b\r\ntraceparent: %b\r\n\r\n" % (
            head.prefix,
            framing,
            self.id,
            self.trace,
        )
        if head.length == CHUNKED and not self.whole:
            return b"".join([begin, *map(encode, pieces)])
        return begin + pieces[0] if len(pieces) == 1 else b"".join([begin, *pieces])

    def encode_more(self, pieces: list[bytes]) -> bytes:
        """Pieces of the body that follow, and its end where they are the last ones."""
        if self.head.length != CHUNKED:
            return b"".join(pieces)
        parts = list(map(encode, pieces))
        if self.whole:
            parts.append(LAST)
        return b"".join(parts)

    def body(self) -> bytes:
        """The whole body. Only while it is repeatable."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
