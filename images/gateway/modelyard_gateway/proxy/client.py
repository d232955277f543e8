"""A caller's connection: its requests one after the other, and their answers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from modelyard_gateway.proxy.exchange import Exchange
from modelyard_gateway.telemetry import metrics as outcomes
from modelyard_gateway.wire.chunks import Chunks
from modelyard_gateway.wire.fields import END, MAX_HEAD, Malformed
from modelyard_gateway.wire.refusal import Refusal, start_line
from modelyard_gateway.wire.request import CHUNKED
from modelyard_gateway.wire.response import ResponseHead

if TYPE_CHECKING:
    from modelyard_gateway.proxy.front import Front

HEAD_SECONDS = 10.0  # from a head's first byte to its last
IDLE_SECONDS = 90.0  # of a connection between two requests
_LINGER_SECONDS = 2.0  # after a refusal, in which the caller may still be sending what nobody reads
_FRAME_UP_TO = 64 << 10  # bytes of a body that are waited for before a server is asked
_KEPT = 1 << 20  # bytes of a body that are kept to be sent again
_AHEAD = 64 << 10  # bytes of requests that came before the answer of the one before

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Client(asyncio.Protocol):
    """`since`: monotonic seconds of the last change of state: connected, begun a head, answered, refused."""

    __slots__ = (
        "_ahead",
        "_beginning",
        "_chunks",
        "_congested",
        "_front",
        "_lingering",
        "_paused",
        "address",
        "exchange",
        "keep",
        "since",
        "transport",
    )

    def __init__(self, front: Front) -> None:
        self._front = front
        self.exchange: Exchange | None = None
        self.keep = True
        self.since = 0.0
        self.address = ""
        self._ahead = b""
        self._beginning = self._congested = self._lingering = self._paused = False
        self._chunks: Chunks | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.since = time.monotonic()
        peer = transport.get_extra_info("peername")
        self.address = peer[0].removeprefix("::ffff:") if peer else ""
        self._front.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio.Protocol."""
        self._front.clients.discard(self)
        exchange = self.exchange
        if exchange is not None:
            exchange.open, self.exchange = False, None
            self._front.leave(exchange)
            self._account(exchange, outcomes.GONE, time.monotonic())

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        exchange = self.exchange
        if exchange is None and not self._congested:
            if self._lingering:
                return
            if self._ahead:
                self._begin(self._ahead + data, True)
            else:
                self._begin(data)
        elif exchange is None or exchange.whole:
            self._ahead += data
            if len(self._ahead) > _AHEAD:
                self.pause()
        else:
            self._take(exchange, data)

    def _begin(self, data: bytes, continued: bool = False) -> None:
        """Begins what stands at the begin of `data`, and what follows it if that is answered at once.

        continued: the begin of it has come earlier.
        """
        self._beginning = True
        while data:
            self._ahead = b""
            if data.startswith(b"\r\n"):  # some clients end a body with a line that nobody asked for
                data = data[2:]
                continue
            end = data.find(END)
            if end < 0 or end > MAX_HEAD:
                self._begin_head(data, continued)
                break
            continued = False
            try:
                head, name, trace = self._front.read_head(data[: end + 4])
            except Malformed as error:
                self.reject(Refusal(error.status, str(error)))
                break
            now = time.monotonic()
            self.since = now
            exchange = self.exchange = self._front.open(self, head, name, trace, now)
            self.keep = head.keep
            body = data[end + 4 :]
            length = head.length
            if length == len(body):  # all of it has come at once
                exchange.whole = True
                exchange.size = length
                if length:
                    exchange.pieces.append(body)
                self._front.admit(exchange, now)
                if exchange.open:
                    self._front.proceed(exchange, now)
            elif length == 0:
                self._ahead = body
                exchange.whole = True
                self._front.admit(exchange, now)
                if exchange.open:
                    self._front.proceed(exchange, now)
            else:
                self._chunks = Chunks() if length == CHUNKED else None
                self._front.admit(exchange, now)
                if exchange.open:
                    if head.expects and not body:
                        self.write(_CONTINUE)
                    if body:
                        self._take(exchange, body)
            if exchange.open or self._congested or not self.keep:
                break
            data = self._ahead
        self._beginning = False

    def _begin_head(self, data: bytes, continued: bool) -> None:
        """Takes the begin of a head; refuses what can't become one."""
        if len(data) > MAX_HEAD:
            self.reject(Refusal(431, f"the request's head has more than {MAX_HEAD} bytes"))
        elif data.count(b"\n") != data.count(b"\r\n"):
            self.reject(Refusal(400, "this is no HTTP/1.1: a line ends without a carriage return"))
        else:
            if not continued:
                self.since = time.monotonic()
            self._ahead = data

    def _take(self, exchange: Exchange, data: bytes) -> None:
        """More of a body."""
        if self._chunks is not None:
            try:
                pieces = self._chunks.feed(data)
            except Malformed as error:
                self._stop(exchange, Refusal(error.status, str(error)))
                return
            if self._chunks.surplus:
                self.keep = False
            exchange.size += sum(map(len, pieces))
            exchange.whole = self._chunks.done
        else:
            left = exchange.head.length - exchange.size
            if len(data) > left:
                self._ahead = data[left:]
                data = data[:left]
            exchange.size += len(data)
            exchange.whole = len(data) == left
            pieces = [data]
        if exchange.size > self._front.max_bytes:
            self._stop(exchange, self._front.too_large)
            return
        upstream = exchange.upstream
        self._store(exchange, pieces)
        if upstream is not None:
            upstream.send_more(exchange, pieces)
        elif not exchange.proceeded and (exchange.whole or exchange.size > _FRAME_UP_TO):
            self._front.proceed(exchange, time.monotonic())

    def _store(self, exchange: Exchange, pieces: list[bytes]) -> None:
        """Keeps the pieces as long as the request may have to be sent, or sent again."""
        if exchange.upstream is not None and not exchange.repeatable:
            return
        size = sum(map(len, pieces))
        fits = exchange.stored + size <= _KEPT and self._front.dispatcher.keep(exchange, size)
        if exchange.upstream is None:
            exchange.pieces += pieces
            if not fits:
                exchange.repeatable = False
                self.pause()  # until it has a server
        elif fits:
            exchange.pieces += pieces
        else:
            exchange.repeatable = False
            self._front.dispatcher.sent(exchange)

    def _stop(self, exchange: Exchange, refusal: Refusal) -> None:
        """The rest of its body can't be taken."""
        if exchange.status:
            self.cut(exchange, outcomes.REFUSED)
        else:
            self._front.leave(exchange)
            self.refuse(exchange, refusal, outcomes.REFUSED)

    def write(self, data: bytes) -> None:
        """Parts of an answer. That a connection is lost is told a moment later; until then nothing may be written."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def start(self, exchange: Exchange, head: ResponseHead) -> bytes:
        """The head of a server's answer, as the caller gets it."""
        exchange.status = head.status
        plain = exchange.whole and self.keep and head.length >= 0 and not exchange.cached
        if plain and exchange.head.modern and not self._front.draining:  # as nearly always
            return b"%b%bx-request-id: %b\r\n\r\n" % (head.prefix, head.framing, exchange.id)
        begin = b"%b%bx-request-id: %b\r\n" % (head.prefix, head.framing, exchange.id)
        if exchange.cached:
            begin += b"x-modelyard-cache: %b\r\n" % exchange.cached.encode()
        if head.length < 0 and exchange.head.method != "HEAD":
            if exchange.head.modern:
                begin += b"transfer-encoding: chunked\r\n"
            else:
                self.keep = False
        return begin + self._connection_field(exchange)

    def _connection_field(self, exchange: Exchange) -> bytes:
        """The end of the head."""
        if self._front.draining or not exchange.whole:
            self.keep = False
        if not self.keep:
            return b"connection: close\r\n\r\n"
        return b"\r\n" if exchange.head.modern else b"connection: keep-alive\r\n\r\n"

    def answer(self, exchange: Exchange, status: int, fields: bytes, body: bytes, outcome: str) -> None:
        """An answer of the gateway's own. `fields`: lines that say what the body is."""
        exchange.status = status
        if exchange.cached:
            fields += b"x-modelyard-cache: %b\r\n" % exchange.cached.encode()
        self.write(
            b"%b%bcontent-length: %d\r\nx-request-id: %b\r\n%b%b"
            % (
                start_line(status),
                fields,
                len(body),
                exchange.id,
                self._connection_field(exchange),
                b"" if exchange.head.method == "HEAD" else body,
            )
        )
        self._finish(exchange, time.monotonic(), outcome)

    def refuse(self, exchange: Exchange, refusal: Refusal, outcome: str) -> None:
        """Tells the caller why there is no answer."""
        self.answer(exchange, refusal.status, refusal.fields(), refusal.body(exchange.head.path), outcome)

    def reject(self, refusal: Refusal) -> None:
        """Answers what isn't a request, and ends the connection."""
        body = refusal.body("")
        self.write(
            b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (start_line(refusal.status), refusal.fields(), len(body), body)
        )
        self._front.rejected(self, refusal)
        self._linger()

    def finish(self, exchange: Exchange, now: float) -> None:
        """A server's answer is through."""
        status = exchange.status
        self._finish(
            exchange,
            now,
            outcomes.OK if status < 400 else outcomes.REFUSED if status < 500 else outcomes.ERROR,
        )

    def cut(self, exchange: Exchange, outcome: str) -> None:
        """Ends the connection in the middle of an answer, so that nobody takes it for whole."""
        exchange.open, self.exchange = False, None
        self.transport.abort()
        self._front.leave(exchange)
        self._account(exchange, outcome, time.monotonic())

    def _finish(self, exchange: Exchange, now: float, outcome: str) -> None:
        exchange.open, self.exchange, self._chunks = False, None, None
        self.since = now
        self._account(exchange, outcome, now)
        if not self.keep:
            if exchange.whole:
                self.transport.close()
            else:
                self._linger()
        elif self._paused:
            self.resume()
        self._go_on()

    def _go_on(self) -> None:
        """The next request, if it has come already and the caller takes answers."""
        if self._ahead and self.keep and not self._beginning and not self._congested:
            self._begin(self._ahead)

    def _account(self, exchange: Exchange, outcome: str, now: float) -> None:
        self._front.account(exchange, self.address, outcome, now)

    def _linger(self) -> None:
        """Ends the connection once the caller has read the answer: at once its system would throw that away.

        As RFC 9112, section 9.6, has it.
        """
        self._lingering, self._ahead, self.keep = True, b"", False
        self.since = time.monotonic()
        self.resume()
        if not self.transport.is_closing():
            self.transport.write_eof()

    def sweep(self, now: float, deadline: float) -> None:
        """Ends what took too long. deadline: requests that began before it are over."""
        exchange = self.exchange
        if exchange is not None:
            if exchange.began < deadline and not exchange.streaming:
                if exchange.proceeded:
                    self._front.expire(exchange)
                else:
                    self._stop(exchange, Refusal(408, "the request's body did not come in time"))
        elif self._lingering:
            if now - self.since > _LINGER_SECONDS:
                self.transport.abort()
        elif self._ahead:
            if now - self.since > HEAD_SECONDS:
                self.reject(Refusal(408, "the request's head did not come in time"))
        elif now - self.since > IDLE_SECONDS:
            self.transport.close()

    def is_busy(self) -> bool:
        """Whether it has a request, a part of one, or an answer that it is still reading."""
        waiting = self.exchange is not None or bool(self._ahead) or self._lingering
        return waiting or self.transport.get_write_buffer_size() > 0

    def pause(self) -> None:
        """Reads no more from the caller."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Of asyncio.Protocol: the caller takes no more at the moment."""
        self._congested = True
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.pause()

    def resume_writing(self) -> None:
        """Of asyncio.Protocol."""
        self._congested = False
        if self.exchange is None:
            self._go_on()
        elif self.exchange.upstream is not None:
            self.exchange.upstream.resume()
