"""A connection to a server: one request at a time, its answer passed on as it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from modelyard_gateway.balance.servers import Server
from modelyard_gateway.proxy import peers
from modelyard_gateway.proxy.exchange import Exchange
from modelyard_gateway.wire.chunks import LAST, Chunks, encode
from modelyard_gateway.wire.fields import END, MAX_HEAD, Malformed
from modelyard_gateway.wire.response import CHUNKED, UNTIL_CLOSED, ResponseHead, read_response

if TYPE_CHECKING:
    from modelyard_gateway.proxy.dispatcher import Dispatcher


class Upstream(asyncio.Protocol):
    """`used`: it has carried an answer, so that the server may close it for its age. `since`: when it became free."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_dispatcher",
        "_head",
        "_left",
        "_paused",
        "exchange",
        "server",
        "since",
        "transport",
        "used",
    )

    def __init__(self, dispatcher: Dispatcher, server: Server) -> None:
        self._dispatcher = dispatcher
        self.server = server
        self.exchange: Exchange | None = None
        self.used = self._paused = False
        self.since = 0.0
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._left = 0  # bytes of the body to come
        self._chunks: Chunks | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def send(self, exchange: Exchange) -> None:
        """The request, as far as it came; the rest follows by `send_more`."""
        self.exchange = exchange
        exchange.upstream = self
        self.transport.write(exchange.encode())

    def send_more(self, exchange: Exchange, pieces: list[bytes]) -> None:
        """More of the request's body."""
        if not self.transport.is_closing():  # else its end is told in a moment
            self.transport.write(exchange.encode_more(pieces))

    def close(self) -> None:
        """Ends the connection. Of one that carries a request: the server shall stop."""
        self.transport.abort()

    def sweep(self, exchange: Exchange, now: float) -> None:
        """Gives up a server that hasn't so much as confirmed a request which it has had for long."""
        if (
            not exchange.status
            and now - exchange.given > peers.VANISHED_SECONDS
            and peers.has_vanished(self.transport)
        ):
            self.exchange = None
            self.close()
            self._dispatcher.failed(exchange, self.server, "reset", why="the server's node has vanished")

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        exchange = self.exchange
        if exchange is None:
            self.close()  # nobody asked: it must not be taken for the next answer
            return
        server = self.server
        server.heard += 1
        if server.hangs:
            server.answered()
        try:
            if self._head is None:
                self._receive_head(exchange, data)
            else:
                self._receive_body(exchange, self._head, data)
        except Malformed as error:
            self._lose(f"the server's answer is malformed: {error}")

    def _receive_head(self, exchange: Exchange, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        while True:
            end = data.find(END)
            if end < 0 or end > MAX_HEAD:
                if len(data) > MAX_HEAD:
                    raise Malformed(f"its head has more than {MAX_HEAD} bytes")
                self._buffer = data
                return
            head = read_response(data[: end + 4])
            data = data[end + 4 :]
            if head.status >= 200:
                break
            # 100 Continue, 103 Early Hints: the caller has had the one from the gateway, and can do without the other.
        self._buffer = b""
        if head.status == 503 and self._dispatcher.can_go_elsewhere(exchange):
            self.exchange = None
            self.close()
            self._dispatcher.failed(exchange, self.server, "busy")
            return
        if self.server.rests_until:
            self.server.answered()
        client = exchange.client
        begin = client.start(exchange, head)
        length = 0 if exchange.head.method == "HEAD" else head.length
        if exchange.flight is not None:
            exchange.flight.begin(head)
        if length == len(data):  # all of it has come at once
            if exchange.flight is not None:
                exchange.flight.add([data])
            client.write(begin + data)
            self._finish(exchange, head.keep and exchange.head.method != "HEAD")
            return
        client.write(begin)
        if length == 0:
            self._finish(exchange, False)  # a body that none may have
            return
        self._head, self._left = head, length
        if length == CHUNKED:
            self._chunks = Chunks()
        if data:
            self._receive_body(exchange, head, data)

    def _receive_body(self, exchange: Exchange, head: ResponseHead, data: bytes) -> None:
        if head.length >= 0:
            surplus = len(data) > self._left
            if surplus:
                data = data[: self._left]
            self._left -= len(data)
            pieces, done = [data], self._left == 0
        else:
            exchange.streaming = exchange.moved = True
            surplus, done, pieces = False, False, [data]
            if self._chunks is not None:
                pieces, done, surplus = self._chunks.feed(data), self._chunks.done, self._chunks.surplus
        if exchange.flight is not None:
            exchange.flight.add(pieces)
        out = pieces
        if head.length < 0 and exchange.head.modern:
            out = [encode(piece) for piece in pieces]
            if done:
                out.append(LAST)
        if out:
            exchange.client.write(out[0] if len(out) == 1 else b"".join(out))
        if done:
            self._finish(exchange, head.keep and not surplus)

    def _finish(self, exchange: Exchange, keep: bool) -> None:
        """The answer is through."""
        self.exchange = self._head = self._chunks = None
        self.used = True
        self.resume()
        # Of a request that is still on its way the rest would be taken for the next.
        self._dispatcher.finished(exchange, self.server, self if keep and exchange.whole else None)
        if not (keep and exchange.whole):
            self.close()

    def _lose(self, why: str) -> None:
        """The answer can't go on."""
        exchange, self.exchange = self.exchange, None
        self.close()
        if exchange is None:
            return
        if self._head is None:
            self._dispatcher.failed(exchange, self.server, "reset", self.used, why)
        else:
            self._dispatcher.broke_off(exchange, self.server)

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio.Protocol."""
        exchange = self.exchange
        if exchange is None:
            if self in self.server.idle:
                self.server.idle.remove(self)
            return
        head = self._head
        if head is not None and head.length == UNTIL_CLOSED and error is None:
            if exchange.head.modern:
                exchange.client.write(LAST)
            self._finish(exchange, False)
            return
        self._lose("the server closed the connection before it answered")

    def pause_writing(self) -> None:
        """Of asyncio.Protocol: the server takes no more at the moment."""
        if self.exchange is not None:
            self.exchange.client.pause()

    def resume_writing(self) -> None:
        """Of asyncio.Protocol."""
        if self.exchange is not None:
            self.exchange.client.resume()

    def pause(self) -> None:
        """The caller takes no more at the moment."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """The caller takes more."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()
