"""A server whose node vanishes under a request says nothing, not even that it has got it."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct

import pytest
from modelyard_gateway.proxy import peers

from tests.unit.gateway.rig import Rig, Upstream, reply, run

_ATTACH_FILTER = 26  # SO_ATTACH_FILTER; a program of one instruction, which takes no packet
_DROP = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))


def vanish(server: Upstream) -> None:
    """To its open connections nothing comes any more: no data, no confirmation, no end."""
    for writer in server.open:
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(_DROP))
        )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience for a test."""
    monkeypatch.setattr(peers, "VANISHED_SECONDS", 1.0)


def test_what_it_had_is_asked_elsewhere(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"one"), reply(b"two")) as (gateway, one, two):
            gateway.serve(one)
            assert (await gateway.ask()).body == b"one"
            vanish(one)
            asked = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: gateway.load == (0, 1))
            gateway.serve(one, two)
            answer = await asked
            assert (answer.status, answer.body, len(one.got)) == (200, b"two", 1)
            assert gateway.process.metrics.retries == {"connect": 0, "reset": 1, "busy": 0}
            # It isn't the next one to be asked, either.
            assert gateway.process.fleet.revisions["r1"].servers["127.0.0.1", one.port].failures == 1
            assert gateway.load == (0, 0)

    run(scenario())


def test_one_that_confirms_and_takes_its_time_is_waited_for(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"late", delay=2.5), reply(b"other")) as (gateway, slow, other):
            gateway.serve(slow)
            asked = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: len(slow.got) == 1)
            gateway.serve(slow, other)
            assert (await asked).body == b"late"

    run(scenario())


def test_one_that_reads_nothing_is_no_vanished_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []

    def ask(transport: asyncio.Transport) -> bool:
        told.append(has_vanished(transport))
        return told[-1]

    has_vanished = peers.has_vanished
    monkeypatch.setattr(peers, "has_vanished", ask)
    body = bytes(8 << 20)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(3)
            await reader.readexactly(len(body))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nread")
            await reader.read()
        finally:
            writer.transport.abort()  # else uvloop waits for it for ever

    async def scenario() -> None:
        async with rig.gateway(reply(), max_request_bytes=len(body)) as (gateway, lazy):
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            listening.bind(("127.0.0.1", 0))
            server = await asyncio.start_server(serve, sock=listening)
            lazy.port = listening.getsockname()[1]
            gateway.serve(lazy)
            try:
                assert (await gateway.ask(body)).body == b"read"
            finally:
                server.close()
                gateway.serve()

    run(scenario())
    assert told
    assert not any(told)
