"""A caller's connection: its requests one after the other, and their answers."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
import time
from typing import TYPE_CHECKING, cast

from modelyard_gateway.proxy import heads
from modelyard_gateway.proxy.exchange import Exchange
from modelyard_gateway.proxy.patience import Patience
from modelyard_gateway.telemetry import metrics as outcomes
from modelyard_gateway.wire.chunks import Chunks
from modelyard_gateway.wire.fields import END, MAX_HEAD, Malformed
from modelyard_gateway.wire.refusal import Refusal
from modelyard_gateway.wire.request import CHUNKED
from modelyard_gateway.wire.response import ResponseHead

if TYPE_CHECKING:
    from modelyard_gateway.proxy.front import Front

_SMALL = 4 << 10  # bytes of a body that are part of what a connection costs: to count them would cost more
_PIECES = 256  # of a body, in which it is kept
_AHEAD = 64 << 10  # bytes of requests that came before the answer of the one before
_AHEAD_IN_ALL = 16 << 20  # of all callers; further ones are ended that have more than a little
_TURN = 32  # requests of one caller that are answered before others have their turn

_CR = 0x0D
_TOO_MUCH_AHEAD = Refusal(503, "too much was sent ahead of the answers: come again in some seconds", 5)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Client(asyncio.Protocol):
    """`since`: monotonic seconds of the last change of state: connected, begun a head, answered, refused; of the last
    part of a body or a stream.

    ahead: what has come and isn't looked at yet. lingering: refused, and ended once the caller has read why.
    congested: the caller takes no more at the moment; paused: nothing is read from it. _waiting: for its next turn.
    """

    __slots__ = (
        "_beginning",
        "_blank",
        "_chunks",
        "_front",
        "_patience",
        "_waiting",
        "address",
        "ahead",
        "congested",
        "exchange",
        "keep",
        "lingering",
        "paused",
        "since",
        "transport",
    )

    def __init__(self, front: Front) -> None:
        self._front = front
        self.exchange: Exchange | None = None
        self.keep = True
        self.since = 0.0
        self.address = ""
        self.ahead = bytearray()
        self._beginning = self._blank = self._waiting = False
        self.congested = self.lingering = self.paused = False
        self._chunks: Chunks | None = None
        self._patience = Patience()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.since = time.monotonic()
        peer = transport.get_extra_info("peername")
        self.address = peer[0].removeprefix("::ffff:") if peer else ""
        refusal = self._front.connected(self)
        if refusal is not None:
            self.reject(refusal)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio.Protocol."""
        self._front.clients.discard(self)
        self._take_ahead()
        exchange = self.exchange
        if exchange is not None:
            exchange.open, self.exchange = False, None
            self._front.leave(exchange)
            self._account(exchange, outcomes.GONE, time.monotonic())

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        exchange = self.exchange
        if exchange is None and not self.congested:
            if self.ahead:
                (self._put_ahead if self._waiting else self._continue_head)(data)
            elif not self.lingering:
                self._begin(data)
        elif exchange is not None and not exchange.whole:
            self._take(exchange, data)
        elif self.keep:
            self._put_ahead(data)

    def _put_ahead(self, data: bytes) -> None:
        """What has come and can't be looked at yet, or isn't whole."""
        self.ahead += data
        self._front.ahead += len(data)
        if len(self.ahead) > _AHEAD:
            self.pause()
        if self._front.ahead > _AHEAD_IN_ALL and len(self.ahead) > _SMALL:
            if self.exchange is None:
                self.reject(_TOO_MUCH_AHEAD)
            else:
                self._take_ahead()
                self.keep = False  # its answer is the last
                self.pause()

    def _begin(self, data: bytes) -> None:
        """Begins what stands at the begin of `data`, and what follows it if that is answered at once."""
        self._beginning = True
        at, size, answered = 0, len(data), 0
        while at < size:
            if data[at] == _CR and data.startswith(b"\r\n", at):
                # Some clients end a body with a line that nobody asked for. RFC 9112, section 2.2: at least one.
                if self._blank:
                    self.reject(Refusal(400, "this is no HTTP/1.1: empty lines stand where a request should"))
                    break
                self._blank = True
                at += 2
                continue
            end = data.find(END, at) + 4
            if end < 4 or end - at > MAX_HEAD + 4:
                self._put_ahead(data[at:])
                self.since = time.monotonic()
                self._check_head(0)
                break
            if self._blank:
                self._blank = False
            try:
                head, name, trace = self._front.read_head(data[at:end])
            except Malformed as error:
                self.reject(Refusal(error.status, str(error)))
                break
            now = time.monotonic()
            self.since = now
            exchange = self.exchange = self._front.open(self, head, name, trace, now)
            self.keep = head.keep
            length = head.length
            at = end + length
            if length >= 0 and at <= size:  # all of it has come at once
                exchange.whole = True
                if length:
                    exchange.size = length
                    exchange.pieces.append(data[end:at])
                    if length > _SMALL and not self._front.dispatcher.keep(exchange, length):
                        exchange.repeatable = False
                self._front.admit(exchange, now)
                if exchange.open:
                    self._front.proceed(exchange, now)
            else:
                at = size
                self._chunks = Chunks() if length == CHUNKED else None
                self._front.admit(exchange, now)
                if exchange.open:
                    if end < size:
                        self._take(exchange, data[end:])
                    elif head.expects:
                        self.write(_CONTINUE)
            if exchange.open or self.congested or not self.keep:
                if self.keep and at < size:
                    self._put_ahead(data[at:])
                break
            answered += 1
            if answered == _TURN and at < size:
                self._put_ahead(data[at:])
                self._waiting = True
                asyncio.get_running_loop().call_soon(self._take_turn)
                break
        self._beginning = False

    def _take_turn(self) -> None:
        self._waiting = False
        if not self.transport.is_closing():
            self._go_on()

    def _take_ahead(self) -> bytes:
        data = bytes(self.ahead)
        self.ahead.clear()
        self._front.ahead -= len(data)
        return data

    def _continue_head(self, data: bytes) -> None:
        """More of a head, of which only that is looked at: it may come byte by byte."""
        if END in self.ahead[-3:] + data or (self.ahead == b"\r" and data.startswith(b"\n")):
            self._begin(self._take_ahead() + data)
        else:
            known = len(self.ahead)
            self._put_ahead(data)
            self._check_head(known)

    def _check_head(self, known: int) -> None:
        """Refuses what can't become a head. known: bytes of it that were looked at before."""
        head = self.ahead
        if len(head) > MAX_HEAD:
            self.reject(Refusal(431, f"the request's head has more than {MAX_HEAD} bytes"))
        elif head.count(b"\n", known) != head.count(b"\r\n", max(0, known - 1)):
            self.reject(Refusal(400, "this is no HTTP/1.1: a line ends without a carriage return"))

    def _take(self, exchange: Exchange, data: bytes) -> None:
        """More of a body."""
        if self._chunks is not None:
            try:
                pieces = self._chunks.feed(data)
            except Malformed as error:
                self.stop(exchange, Refusal(error.status, str(error)))
                return
            if self._chunks.surplus:
                self.keep = False
            pieces = [b"".join(pieces)] if pieces else []
            size = len(pieces[0]) if pieces else 0
            exchange.whole = self._chunks.done
        else:
            left = exchange.head.length - exchange.size
            if len(data) > left:
                self._put_ahead(data[left:])
                data = data[:left]
            size = len(data)
            exchange.whole = size == left
            pieces = [data]
        exchange.size += size
        if exchange.size > self._front.max_bytes:
            self.stop(exchange, self._front.too_large)
            return
        self._store(exchange, pieces, size)
        self.since = time.monotonic()
        if exchange.upstream is not None:
            exchange.upstream.send_more(exchange, pieces)
        elif exchange.whole or not exchange.repeatable:
            if not exchange.proceeded:
                self._front.proceed(exchange, self.since)
            if exchange.open and exchange.upstream is None and not exchange.whole:
                self.pause()  # until it has a server, which gets all that comes

    def _store(self, exchange: Exchange, pieces: list[bytes], size: int) -> None:
        """Keeps the pieces as long as the request may have to be sent, or sent again.

        Where there is no room for that it is sent once, and no more of it is taken than its server takes.
        """
        if exchange.status:
            return  # it won't be sent again
        if len(exchange.pieces) > _PIECES:  # each costs more than a byte or two that are in it
            exchange.pieces = [b"".join(exchange.pieces)]
        if exchange.repeatable and self._front.dispatcher.keep(exchange, size):
            exchange.pieces += pieces
        elif exchange.upstream is None:
            exchange.repeatable = False
            exchange.pieces += pieces

    def stop(self, exchange: Exchange, refusal: Refusal) -> None:
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
        if exchange.stored:
            self._front.dispatcher.forget(exchange)
        begin, self.keep = heads.pass_on(exchange, head, self.keep and not self._front.draining)
        return begin

    def answer(self, exchange: Exchange, status: int, fields: bytes, body: bytes, outcome: str) -> None:
        """An answer of the gateway's own. `fields`: lines that say what the body is."""
        exchange.status = status
        keep = self.keep and not self._front.draining
        begin, self.keep = heads.own(exchange, status, fields, len(body), keep)
        self.write(begin if exchange.head.method == "HEAD" else begin + body)
        self._finish(exchange, time.monotonic(), outcome)

    def refuse(self, exchange: Exchange, refusal: Refusal, outcome: str) -> None:
        """Tells the caller why there is no answer."""
        self.answer(exchange, refusal.status, refusal.fields(), refusal.body(exchange.head.path), outcome)

    def reject(self, refusal: Refusal) -> None:
        """Answers what isn't a request, and ends the connection."""
        self.write(heads.rejection(refusal))
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
            if exchange.whole and not self.paused:
                self.transport.close()
            else:
                self._linger()
        elif self.paused:
            self.resume()
        self._go_on()

    def _go_on(self) -> None:
        """The next request, if it has come already and the caller takes answers."""
        if self.ahead and self.keep and not self._beginning and not self.congested:
            self.resume()  # the last of them may not be whole
            self._begin(self._take_ahead())

    def _account(self, exchange: Exchange, outcome: str, now: float) -> None:
        self._front.account(exchange, self.address, outcome, now)

    def _linger(self) -> None:
        """Ends the connection once the caller has read the answer: at once its system would throw that away.

        As RFC 9112, section 9.6, has it.
        """
        self.lingering, self.keep = True, False
        self._take_ahead()
        self.since = time.monotonic()
        self.resume()
        if not self.transport.is_closing():
            self.transport.write_eof()

    def sweep(self, now: float, deadline: float) -> None:
        """Ends what took too long. deadline: requests that began before it are over."""
        self._patience.sweep(self, now, deadline)

    def expire(self, exchange: Exchange) -> None:
        """The time of its request is up, which isn't the caller's fault."""
        self._front.expire(exchange)

    def has_unread(self) -> bool:
        """Whether something has come that the event loop has not read: to close now would lose a request."""
        connection = self.transport.get_extra_info("socket")
        if connection is None or connection.fileno() < 0:
            return False
        return bool(
            int.from_bytes(fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
        )

    def is_busy(self) -> bool:
        """Whether it has a request, a part of one, or an answer that it is still reading."""
        waiting = self.exchange is not None or bool(self.ahead) or self.lingering
        return waiting or self.transport.get_write_buffer_size() > 0

    def pause(self) -> None:
        """Reads no more from the caller."""
        if not self.paused and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self.paused and not self.transport.is_closing():
            self.paused = False
            self.since = time.monotonic()
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Of asyncio.Protocol: the caller takes no more at the moment."""
        self.congested = True
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.pause()

    def resume_writing(self) -> None:
        """Of asyncio.Protocol."""
        self.congested = False
        if self.exchange is None:
            self._go_on()
        elif self.exchange.upstream is not None:
            self.exchange.upstream.resume()
