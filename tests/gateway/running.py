"""Starting gateways and servers as processes, and stopping them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from modelyard.contract import codes

from tests.unit.gateway.api import Api, make_slice

LONGEST = 30.0  # seconds that anything here may take


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(*command: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


async def get(url: str) -> int:
    """The status; 0 where nobody answers."""
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status
    except aiohttp.ClientError:
        return 0


async def until(what: str, condition: Any) -> None:
    async with asyncio.timeout(LONGEST):
        while not await condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.02)


@dataclass
class Gateway:
    """A gateway's process, and where it answers."""

    process: subprocess.Popen[bytes]
    port: int
    admin_port: int
    log: Path

    async def ready(self) -> int:
        return await get(f"http://127.0.0.1:{self.admin_port}/readyz")

    async def until_ready(self) -> None:
        async def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return await self.ready() == 200

        await until("readiness", ready)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        return await asyncio.to_thread(self.process.wait, LONGEST)


@dataclass
class Servers:
    """Server processes; those that are `known` are in the API server's one slice."""

    api: Api
    log: Path
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    async def add(self) -> int:
        """Starts one more, and tells of it when it listens. Returns its port."""
        port = free_port()
        self.processes[port] = start("tests.gateway.upstream", str(port), log=self.log)

        async def listens() -> bool:
            return await get(f"http://127.0.0.1:{port}/0") == 200

        await until("a server", listens)
        self.tell(port, "ADDED")
        return port

    def kill(self, port: int) -> None:
        self.processes[port].kill()
        self.processes.pop(port).wait()

    def tell(self, port: int, kind: str) -> None:
        """A slice for each, as all of them are on one address."""
        self.api.put(make_slice(f"s{port}", "127.0.0.1", port=port), kind)


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[tuple[str, Servers]]:
    """The API server's URL, and servers to come."""
    api = Api()
    found = Servers(api, folder / "servers.log")
    try:
        async with api.serving() as url:
            yield url, found
    finally:
        for process in found.processes.values():
            process.kill()
            process.wait()


@asynccontextmanager
async def gateway(folder: Path, api: str, **config: Any) -> AsyncIterator[Gateway]:
    """A gateway that is ready; killed at the end if it still runs."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - nobody else waits
    told = {"name": "m", "namespace": "ns", "deployment": "d", **config}
    (folder / "gateway.json").write_text(json.dumps(told))
    (folder / "token").write_text("token")
    port, admin = free_port(), free_port()
    options = {"port": port, "admin-port": admin, "api": api, "account": folder, "scratch": folder}
    command = [f"--{name}={value}" for name, value in options.items()]
    process = start(
        "modelyard_gateway",
        *command,
        log=folder / "log",
        **{codes.ENV_GATEWAY_CONFIG: str(folder / "gateway.json")},
    )
    made = Gateway(process, port, admin, folder / "log")
    try:
        await made.until_ready()
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
