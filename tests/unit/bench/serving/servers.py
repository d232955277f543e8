"""Servers on 127.0.0.1 that answer as a test says, byte by byte if need be, and remember what they saw."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.bench.serving.load import Target


@dataclass
class Request:
    """`received` and `answered`: monotonic seconds, of its last byte and of before the answer's first."""

    number: int
    path: str
    headers: dict[str, str]
    body: Any
    received: float
    answered: float = 0.0


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """What it saw: the requests in order, connections opened, and how many requests were there at once at most."""

    answer: Answer
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    busy: int = 0

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", self.port, seconds=10)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has closed it
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        request = Request(len(self.requests), first.split()[1], headers, body, received=time.monotonic())
        self.requests.append(request)
        self.busy += 1
        self.at_once = max(self.at_once, self.busy)
        try:
            await self.answer(request, writer)
        finally:
            self.busy -= 1
        await writer.drain()


def send(
    request: Request, writer: asyncio.StreamWriter, content: Any, status: int = 200, headers: str = ""
) -> None:
    """A JSON answer."""
    body = json.dumps(content).encode()
    request.answered = time.monotonic()
    writer.write(f"HTTP/1.1 {status} So\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body)


async def send_stream(writer: asyncio.StreamWriter, pieces: list[bytes], end: bool = True) -> None:
    """A chunked answer, each piece on its own on the wire."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for piece in pieces:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
        await asyncio.sleep(0.002)
    if end:
        writer.write(b"0\r\n\r\n")


async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
    send(request, writer, request.body)


@contextmanager
def serve(answer: Answer = echo) -> Iterator[Server]:
    """A server in a thread of its own, so that it serves tests with and without a loop, and other processes."""
    server = Server(answer)
    ready = threading.Event()
    stop: list[Callable[[], Any]] = []

    async def main() -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, backlog=1000)
        server.port = listener.sockets[0].getsockname()[1]
        ready.set()
        async with listener:
            await stopped.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield server
    finally:
        stop[0]()
        thread.join(20)
        assert not thread.is_alive()
