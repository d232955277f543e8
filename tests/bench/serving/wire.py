"""HTTP/1.1 as a client that measures sees it: one request at a time, a time for each piece of its answer.

Times are monotonic seconds, taken when bytes arrive, before they are parsed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import httptools

# How a request can fail; `wrong` is an answer with status 200 that is not the one expected.
KINDS = ("status", "refused", "reset", "timeout", "wrong")
SECONDS = 60.0  # for one request, unless told otherwise
LONGEST_WORDS = 300


class Failure(Exception):  # noqa: N818 - it is told as a result, not as an error of this program
    """A request that failed: its kind, one of KINDS, and words for people."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words[:LONGEST_WORDS])
        self.kind, self.words = kind, words[:LONGEST_WORDS]


class Answer:
    """A whole answer: `pieces` of its body with their times, `first` and `last` byte's time."""

    __slots__ = ("first", "last", "pieces", "status")

    def __init__(self) -> None:
        self.status = 0
        self.first = self.last = 0.0
        self.pieces: list[tuple[float, bytes]] = []

    @property
    def body(self) -> bytes:
        """All pieces."""
        return self.pieces[0][1] if len(self.pieces) == 1 else b"".join(piece for _, piece in self.pieces)


class Connection(asyncio.Protocol):
    """Sends a request and reads its answer; free for the next when that is whole."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.open = False
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._now = 0.0
        self._waiter: asyncio.Future[Answer] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """The answer to come; the future raises Failure. Only when no other is awaited."""
        assert self._waiter is None and self.open
        self._waiter = self._loop.create_future()
        self._answer = Answer()
        self._deadline = time.monotonic() + self.seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self.seconds, self._look)
        self._transport.write(request)
        return self._waiter

    def close(self) -> None:
        """Idempotent."""
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        # uvloop's is no subclass.
        self._transport, self.open = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        self._now = time.monotonic()
        if self._waiter is None:
            self.close()  # nobody asked: whatever it is, it must not be taken for the next answer
            return
        if not self._answer.first:
            self._answer.first = self._now
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail("wrong", f"no HTTP answer: {error}; it begins with {data[:60]!r}")

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio.Protocol."""
        got = sum(len(piece) for _, piece in self._answer.pieces)
        how = f"{type(error).__name__}: {error}" if error else "closed by the server"
        where = (
            f"after {got} bytes of its body" if self._answer.first else "before the first byte of an answer"
        )
        self._fail("reset", f"{how} {where}")

    def on_body(self, body: bytes) -> None:
        """Of the parser: a piece, or a part of one."""
        if self._waiter is None:
            self.close()  # a second answer to one request
            return
        self._answer.pieces.append((self._now, body))

    def on_message_complete(self) -> None:
        """Of the parser."""
        answer, waiter = self._answer, self._waiter
        if waiter is None:
            self.close()
            return
        status = self._parser.get_status_code()
        if status < 200:
            return  # 100 Continue, 103 Early Hints: the answer is still to come
        answer.status, answer.last = status, self._now
        self._waiter = None
        if not self._parser.should_keep_alive():
            self.close()
        if not waiter.done():
            waiter.set_result(answer)

    def _fail(self, kind: str, words: str) -> None:
        waiter, self._waiter = self._waiter, None
        self.close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(Failure(kind, words))

    def _look(self) -> None:
        # One timer for many requests: it costs nothing while answers come in time.
        self._timer = None
        if self._waiter is None:
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            begun = "it had begun" if self._answer.first else "not a byte had come"
            self._fail("timeout", f"no whole answer after {self.seconds:g} s; {begun}")


class Client:
    """Connections to one server. `reuse=False` opens one for each request, as many short-lived callers do."""

    def __init__(self, host: str, port: int, seconds: float = SECONDS, reuse: bool = True) -> None:
        self.host, self.port, self.seconds, self.reuse = host, port, seconds, reuse
        self._free: list[Connection] = []

    async def ask(self, request: bytes) -> Answer:
        """The answer, whatever its status. Raises Failure; nothing is asked twice."""
        connection = await self._find()
        try:
            answer = await connection.ask(request)
        except asyncio.CancelledError:
            connection.close()
            raise
        if not self.reuse:
            connection.close()
        elif connection.open:
            self._free.append(connection)
        return answer

    def close(self) -> None:
        """Closes what is free."""
        while self._free:
            self._free.pop().close()

    async def _find(self) -> Connection:
        while self._free:
            # The one used last: others may be closed by the server meanwhile, which isn't a failed request.
            connection = self._free.pop()
            if connection.open:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self.seconds), self.host, self.port
                )
        except TimeoutError:
            raise Failure("timeout", f"no connection after {self.seconds:g} s") from None
        except OSError as error:
            raise Failure("refused", f"{type(error).__name__}: {error}") from None
        return connection


def encode(host: str, path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> bytes:
    """The bytes of a request."""
    fields: dict[str, Any] = {"Host": host, "Content-Type": "application/json", "Content-Length": len(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (fields | headers).items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body
