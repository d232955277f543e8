"""A gateway that shall stop answers all that it accepts, and has the time for it."""

from __future__ import annotations

import asyncio
import io
import socket
import time
from pathlib import Path

import pytest
from modelyard.contract import codes
from modelyard.contract.gateway import GatewayConfig
from modelyard_gateway.balance.servers import Target
from modelyard_gateway.process import Process
from modelyard_gateway.settings import Settings
from modelyard_gateway.telemetry.log import AccessLog

from tests.unit.gateway.rig import NOWHERE, Rig, Upstream, encode, reply, run


def test_what_comes_while_it_announces_its_end_has_the_whole_drain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "ANNOUNCE_SECONDS", 1.0)

    async def scenario() -> None:
        (tmp_path / "token").write_text("token")
        config = GatewayConfig(name="m", namespace="ns", deployment="d", drain_seconds=1.2)
        settings = Settings(config, NOWHERE, tmp_path, tmp_path, tmp_path, port=0, admin_port=0)
        process = Process(settings, AccessLog(io.BytesIO()))
        server = Upstream(reply(b"all of it", delay=0.9))
        await server.start()
        running = asyncio.create_task(process.run())
        while not process.port:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)
        process.take({"r1": Target(100, 0, frozenset({("127.0.0.1", server.port)}))})
        process.stop()
        # The announcement is more than half over: what comes now ends in the middle of the drain.
        await asyncio.sleep(0.65)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
            writer.write(encode())
            assert (await reader.read()).endswith(b"all of it")
            await running
            writer.close()
        finally:
            server.kill()
            process.stop()  # in a hurry
            await running

    run(scenario())


def test_a_connection_is_not_closed_as_idle_when_a_request_has_come_that_was_not_read_yet(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"all of it")) as (gateway, _):
            with socket.create_connection(("127.0.0.1", gateway.process.port)) as used, socket.create_connection(
                ("127.0.0.1", gateway.process.port)
            ) as idle:  # fmt: skip
                front = gateway.process.front
                await gateway.until(lambda: len(front.clients) == 2)
                used.sendall(encode())  # it is there, and the loop has had no turn
                front.close_idle(time.monotonic())
                loop = asyncio.get_running_loop()
                assert b"all of it" in await loop.run_in_executor(None, used.recv, 4096)
                assert await loop.run_in_executor(None, idle.recv, 4096) == b""

    run(scenario())
