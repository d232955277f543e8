"""A gateway in this process, on real sockets, with servers that do what a test tells them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
from modelyard.contract.gateway import GatewayConfig
from modelyard_gateway.balance.servers import Target
from modelyard_gateway.process import Process
from modelyard_gateway.settings import Settings
from modelyard_gateway.telemetry.log import AccessLog

LONGEST = 20.0  # seconds that anything here may take
NOWHERE = "http://127.0.0.1:9"  # no API server


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs a scenario on the loop that the gateway runs on."""

    async def bounded() -> None:
        await asyncio.wait_for(scenario, LONGEST)

    uvloop.run(bounded())


@dataclass
class Request:
    """What a server got."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode()

    def fields(self, name: str) -> list[str]:
        pairs = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return [v.strip().decode() for k, _, v in pairs if k.lower() == name.encode()]


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes = b"{}", status: int = 200, fields: bytes = b"", delay: float = 0.0) -> Handler:
    """A server that answers so."""

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay)
        head = b"HTTP/1.1 %d Said\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (
            status,
            len(body),
        )
        writer.write(head + fields + b"\r\n" + body)

    return handle


class Upstream:
    """A server. `handle` may be changed at any time. `got`: its requests; `open`: its connections; `gone`: those that
    the gateway ended under a request."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle
        self.got: list[Request] = []
        self.open: set[asyncio.StreamWriter] = set()
        self.gone = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def kill(self) -> None:
        """As SIGKILL does it: nobody listens, all connections are reset."""
        assert self._server is not None
        self._server.close()
        for writer in self.open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        handling: asyncio.Task[None] | None = None
        try:
            while True:
                request = await read_request(reader)
                self.got.append(request)
                handling = asyncio.ensure_future(self.handle(request, writer))
                watching = asyncio.ensure_future(reader.read(1))
                await asyncio.wait((handling, watching), return_when=asyncio.FIRST_COMPLETED)
                if not handling.done():
                    self.gone += 1
                    return
                if not watching.cancel() or watching.done():
                    return
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            if handling is not None:
                handling.cancel()
            self.open.discard(writer)
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    request = Request(head, b"")
    if request.fields("content-length"):
        request.body = await reader.readexactly(int(request.fields("content-length")[0]))
    elif request.fields("transfer-encoding"):
        request.body = await read_chunks(reader)
    return request


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


@dataclass
class Answer:
    """What a caller got."""

    status: int
    fields: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """A caller's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines[1:] if line]
        assert len({name.lower() for name, _ in pairs}) == len(pairs), lines
        return int(lines[0].split()[1]), {name.lower(): value for name, value in pairs}

    async def read(self, method: str = "POST") -> Answer:
        status, fields = await self.read_head()
        body = b""
        if method == "HEAD" or status in (204, 304):
            pass
        elif "content-length" in fields:
            body = await self.reader.readexactly(int(fields["content-length"]))
        elif "transfer-encoding" in fields:
            body = await read_chunks(self.reader)
        else:
            body = await self.reader.read()
        return Answer(status, fields, body)

    async def ask(
        self, body: bytes = b"{}", path: str = "/v2/models/m/infer", fields: str = "", method: str = "POST"
    ) -> Answer:
        self.send(encode(body, path, fields, method))
        return await self.read(method)

    async def is_closed(self) -> bool:
        """Waits for the connection's end."""
        try:
            return await self.reader.read(1) == b""
        except OSError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


def encode(
    body: bytes = b"{}", path: str = "/v2/models/m/infer", fields: str = "", method: str = "POST"
) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: h\r\n{length}{fields}\r\n".encode() + (
        body if method == "POST" else b""
    )


@dataclass
class Gateway:
    """The gateway under test."""

    process: Process
    log: io.BytesIO
    task: str = ""
    speaks: str = ""
    callers: list[Caller] = field(default_factory=list)

    def serve(self, *servers: Upstream, concurrency: int = 0, revision: str = "r1") -> None:
        """These are the ready servers, of one revision."""
        self.serve_all({revision: (100, concurrency, servers)})

    def serve_all(self, revisions: dict[str, tuple[int, int, tuple[Upstream, ...]]]) -> None:
        self.process.take(
            {
                name: Target(
                    weight,
                    concurrency,
                    frozenset(("127.0.0.1", s.port) for s in servers),
                    self.task,
                    self.speaks,
                )
                for name, (weight, concurrency, servers) in revisions.items()
            }
        )

    async def call(self) -> Caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.process.port, limit=1 << 22)
        self.callers.append(Caller(reader, writer))
        return self.callers[-1]

    async def ask(self, *args: Any, **kwargs: Any) -> Answer:
        """On a connection of its own."""
        return await (await self.call()).ask(*args, **kwargs)

    def lines(self) -> list[dict[str, Any]]:
        """The access log."""
        self.process.front.sweep(asyncio.get_running_loop().time())
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)

    @property
    def load(self) -> tuple[int, int]:
        return self.process.load.queued, self.process.load.running


class Rig:
    """Makes gateways and servers, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.asynccontextmanager
    async def gateway(
        self, *handlers: Handler, api: str = NOWHERE, task: str = "", speaks: str = "", **config: Any
    ) -> AsyncIterator[Any]:
        """(gateway, server, ...): with a server for each of the handlers, all of one revision that tells so much."""
        told = {"name": "m", "namespace": "ns", "deployment": "d", **config}
        (self.folder / "token").write_text("token")
        settings = Settings(
            GatewayConfig(**told), api=api, account=self.folder, keys=self.folder / "keys", scratch=self.folder,
            port=0, admin_port=0,
        )  # fmt: skip
        log = io.BytesIO()
        process = Process(settings, AccessLog(log))
        servers = [Upstream(handler) for handler in handlers]
        for server in servers:
            await server.start()
        async with process.serving():
            gateway = Gateway(process, log, task, speaks)
            if api == NOWHERE:  # which is news to whoever asks
                await gateway.until(lambda: process.watch.trouble is not None)
            if servers or task or speaks:
                gateway.serve(*servers)
            try:
                yield (gateway, *servers)
            finally:
                for caller in gateway.callers:
                    caller.close()
                for server in servers:
                    server.kill()
                await asyncio.sleep(0)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)
