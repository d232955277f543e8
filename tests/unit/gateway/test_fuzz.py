"""Whatever bytes come, in whatever pieces, the gateway stays in order: servers see well-formed requests only.

On asyncio's own loop: uvloop's can take for ever to close after so many connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from unittest import mock

import httptools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelyard_gateway.balance import servers
from modelyard_gateway.wire.chunks import Chunks
from modelyard_gateway.wire.fields import Malformed
from modelyard_gateway.wire.request import CHUNKED, Reader

from tests.unit.gateway.rig import Gateway, Rig, Upstream, reply

# Parts that requests are made of, right ones and nearly right ones.
# fmt: off
PARTS = [
    b"GET ", b"POST ", b"HEAD ", b"/v1/models", b"/x", b"/", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r\n\r\n", b"\n",
    b"\r",
    b"Host: h\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 99999\r\n",
    b"content-length:",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive, Host\r\n", b"Expect: 100-continue\r\n", b"X: y\r\n", b" ", b":",
    b"\0",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"hello", b"\xff\xfe", b"A" * 300,
    b"X-Request-Id: a\r\n", b"\r\nTraceparent:", b"Upgrade: h2c\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
]
# fmt: on
streams = st.lists(st.sampled_from(PARTS) | st.binary(max_size=12), min_size=1, max_size=14)
FEW = settings(
    deadline=None,
    max_examples=250,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Strict:
    """What a server of another make sees of a connection: complete requests, read by a parser of its own."""

    def __init__(self) -> None:
        self.requests = 0
        self.whole = True
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.whole = False

    def on_message_complete(self) -> None:
        self.requests += 1
        self.whole = True


@pytest.mark.parametrize("together", [True, False])
def test_servers_see_nothing_but_whole_requests(tmp_path: Path, together: bool) -> None:
    seen: list[Strict] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        strict = Strict()
        seen.append(strict)
        answered = 0
        with contextlib.suppress(OSError):  # of a caller that hung up the gateway cuts the request
            while data := await reader.read(65536):
                strict.parser.feed_data(data)  # raises, which is a failure of the test, for what is malformed
                while answered < strict.requests:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    answered += 1
        writer.close()

    async def send(gateway: Gateway, parts: list[bytes]) -> bytes:
        caller = await gateway.call()
        with contextlib.suppress(OSError):
            for part in [b"".join(parts)] if together else parts:
                caller.send(part)
                await asyncio.sleep(0)
            await asyncio.sleep(0.002)
            caller.writer.write_eof()
            answer = await caller.reader.read()
            gateway.callers.remove(caller)
            caller.close()
            return answer
        return b""

    with asyncio.Runner() as runner:
        failures: list[dict[str, object]] = []
        runner.get_loop().set_exception_handler(lambda _, context: failures.append(context))
        stack = contextlib.AsyncExitStack()

        async def start() -> Gateway:
            listener = await asyncio.start_server(serve, "127.0.0.1", 0)
            stack.callback(listener.close)
            (gateway,) = await stack.enter_async_context(Rig(tmp_path).gateway())
            server = Upstream(reply())
            server.port = listener.sockets[0].getsockname()[1]
            gateway.serve(server)
            found: Gateway = gateway
            return found

        gateway = runner.run(start())

        @FEW
        @given(streams)
        def fuzz(parts: list[bytes]) -> None:
            answer = runner.run(asyncio.wait_for(send(gateway, parts), 5))
            assert not answer or answer.startswith(b"HTTP/1.1 ")
            assert not failures
            runner.run(asyncio.wait_for(gateway.until(lambda: gateway.load == (0, 0)), 5))
            assert gateway.process.dispatcher.kept == 0
            seen.clear()
            gateway.log.truncate(0)

        try:
            fuzz()
        finally:
            runner.run(stack.aclose())


@FEW
@given(streams, st.data())
def test_answers_of_a_mad_server_reach_nobody_as_good_ones(
    tmp_path: Path, parts: list[bytes], data: st.DataObject
) -> None:
    said = data.draw(
        st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"])
    ) + b"".join(parts)

    async def scenario() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(said)
                await writer.drain()
            writer.close()

        async with Rig(tmp_path).gateway(timeout_seconds=5) as (gateway,):
            listener = await asyncio.start_server(serve, "127.0.0.1", 0)
            server = Upstream(reply())
            server.port = listener.sockets[0].getsockname()[1]
            gateway.serve(server)
            caller = await gateway.call()
            caller.send(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            try:
                got = await asyncio.wait_for(caller.reader.read(), 6)
            except ConnectionResetError:
                got = b""
            assert re.match(rb"HTTP/1\.1 \d{3} |$", got)
            assert got.count(b"HTTP/1.1 ") <= 1 or b"HTTP/1.1 " in said[9:]
            await gateway.until(lambda: gateway.load == (0, 0))
            listener.close()

    with mock.patch.object(servers, "_FIRST_REST", 0.0):
        asyncio.run(scenario())


@settings(deadline=None, max_examples=2000)
@given(streams)
def test_what_is_taken_for_a_head_is_read_by_others_in_the_same_way(parts: list[bytes]) -> None:
    head = b"".join(parts).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    try:
        read, _, _ = Reader()(head)
    except Malformed:
        return
    framing = read.framing if read.length != CHUNKED else b"transfer-encoding: chunked\r\n"
    sent = read.prefix + framing + b"\r\n"
    lengths = re.findall(rb"(?im)^content-length: (\d+)\r$", sent)
    chunked = re.findall(rb"(?im)^transfer-encoding: (.*)\r$", sent)
    assert len(lengths) + len(chunked) <= 1
    assert not re.search(rb"[^\r]\n|\r[^\n]|\0", sent)
    assert re.fullmatch(rb"[A-Z]+ /[!-~]* HTTP/1\.1", sent.partition(b"\r\n")[0])
    body = b"hello"[: read.length] if read.length >= 0 else b"0\r\n\r\n"
    strict = Strict()
    strict.parser.feed_data(sent + body)
    assert strict.whole == (read.length <= 5)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.data())
def test_chunks_give_the_same_bytes_however_they_are_cut(pieces: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    chunks, got = Chunks(), b""
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        assert not chunks.done or begin == len(sent)
        got += b"".join(chunks.feed(sent[begin:end]))
    assert (got, chunks.done, chunks.surplus) == (b"".join(pieces), True, False)
