"""Real gateways: servers die under them, and they themselves are stopped, and no caller sees a failure."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tests.bench.serving.background import ConstantLoad
from tests.bench.serving.load import Target
from tests.bench.serving.protocols import Case, Plain
from tests.gateway.running import gateway, servers

CASES = [Case({"n": n}, {"ok": True}) for n in range(10)]


def load(port: int, rate: float, path: str = "/10") -> ConstantLoad:
    return ConstantLoad(Target("127.0.0.1", port), Plain(path), CASES, rate)


def test_no_request_fails_while_servers_are_killed_and_others_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with servers(tmp_path) as (api, found), gateway(tmp_path / "g", api) as made:
            ports = [await found.add() for _ in range(3)]
            async with load(made.port, 200) as constant:
                for _ in range(6):
                    await asyncio.sleep(0.4)
                    ports.append(await found.add())
                    gone = ports.pop(0)
                    found.kill(gone)
                    await asyncio.sleep(0.4)  # a kubelet needs longer to find out
                    found.tell(gone, "DELETED")
            constant.report.check()
            assert '"repeats":1' in made.log.read_text()  # or nothing was tried

    asyncio.run(scenario())


def test_no_request_fails_while_the_only_server_is_gone_for_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with servers(tmp_path) as (api, found), gateway(tmp_path / "g", api) as made:
            first = await found.add()
            async with load(made.port, 50) as constant:
                await asyncio.sleep(0.5)
                found.kill(first)
                await asyncio.sleep(0.5)
                found.tell(first, "DELETED")
                await asyncio.sleep(1)
                await found.add()
                await asyncio.sleep(1)
            constant.report.check()

    asyncio.run(scenario())


def test_a_gateway_that_shall_stop_goes_on_until_its_callers_have_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with servers(tmp_path) as (api, found), gateway(tmp_path / "g", api, drainSeconds=20) as made:
            await found.add()
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            idle = await asyncio.open_connection("127.0.0.1", made.port)
            writer.write(b"POST /6500 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            await asyncio.sleep(0.2)
            made.stop()
            async with load(made.port, 50) as constant:  # callers that have not heard of it yet
                await asyncio.sleep(0.2)
                assert await made.ready() == 503
                await asyncio.sleep(2)
            constant.report.check()
            kept, asking = await asyncio.open_connection("127.0.0.1", made.port)
            asking.write(b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n")
            assert b"connection: close" in (await kept.readuntil(b"\r\n\r\n")).lower()
            assert await idle[0].read() == b""  # after 15 s, when whoever used it would have
            # What runs is finished, though the port is closed by now.
            assert (await reader.read()).endswith(b'{"ok":true}')
            assert await made.wait() == 0
            for stream in (writer, asking, idle[1]):
                stream.close()

    asyncio.run(scenario())


def test_a_gateway_that_is_started_anew_serves_without_the_api_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with servers(tmp_path) as (api, found):
            async with gateway(tmp_path / "g", api) as made:
                await found.add()
                async with load(made.port, 20) as constant:
                    await asyncio.sleep(0.3)
                constant.report.check()
                made.process.kill()
            async with gateway(tmp_path / "g", "http://127.0.0.1:9") as made:
                async with load(made.port, 20) as constant:
                    await asyncio.sleep(0.3)
                constant.report.check()

    asyncio.run(scenario())


def test_a_config_that_is_none_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    for config, words in (
        (None, "MODELYARD_GATEWAY_CONFIG is not set"),
        ("{", "isn't valid"),
        ('{"name": "m", "namespace": "n", "deployment": "d", "maxQueue": -1}', "maxQueue"),
        (
            '{"contractVersion": 99, "name": "m", "namespace": "n", "deployment": "d"}',
            "of the operator's release",
        ),
        ('{"name": "m", "namespace": "n", "deployment": "d"}', "KUBERNETES_SERVICE_HOST is not set"),
    ):
        environment = {"PYTHONPATH": ":".join(sys.path)}
        if config is not None:
            (tmp_path / "config.json").write_text(config)
            environment["MODELYARD_GATEWAY_CONFIG"] = str(tmp_path / "config.json")
        done = subprocess.run(
            [sys.executable, "-m", "modelyard_gateway"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_the_log_is_json_lines_on_standard_output(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with servers(tmp_path) as (api, found), gateway(tmp_path / "g", api) as made:
            await found.add()
            async with load(made.port, 50) as constant:
                await asyncio.sleep(0.5)
            made.stop()
            await made.wait()
            lines = [json.loads(line) for line in made.log.read_text().splitlines() if line.startswith("{")]
            assert len(lines) == constant.report.sent
            assert {line["outcome"] for line in lines} == {"ok"}

    asyncio.run(scenario())
