"""Modelyard's own server as a contender: asked directly, and through its gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelyard.contract import codes

from tests.bench.serving.comparison import Serving
from tests.bench.serving.load import Target
from tests.bench.serving.processors import CALLERS, SERVER, on
from tests.server.running import free_port, running

NAME = "toy"  # as tests.server.running has it
# Requests that a gateway gives a server at once: twice those that a build finds it best with, for this classifier.
CONCURRENCY = 32


@contextmanager
def direct(folder: Path, task: str, **config: Any) -> Iterator[Serving]:
    """A server of the model, with a processor for itself."""
    with tempfile.TemporaryDirectory() as root:
        with on(SERVER):
            started = running(folder, Path(root) / "server", task, **config)
            server = started.__enter__()
        try:
            server.until_ready()
            yield Serving(Target("127.0.0.1", int(server.url.rpartition(":")[2])), server.process.pid)
        finally:
            started.__exit__(None, None, None)


@contextmanager
def through_gateway(folder: Path, task: str, **config: Any) -> Iterator[Serving]:
    """The same behind a gateway, which is with the callers: it is another pod's. CPU and memory are the server's."""
    with (
        direct(folder, task, **config) as serving,
        tempfile.TemporaryDirectory() as root,
        _gateway(Path(root), serving.target.port) as port,
    ):
        yield Serving(Target("127.0.0.1", port), serving.pid)


@contextmanager
def _gateway(root: Path, upstream: int) -> Iterator[int]:
    """It goes on with what it saw last, as there is no API server."""
    port, admin = free_port(), free_port()
    told = {"name": NAME, "namespace": "bench", "deployment": NAME}
    (root / "gateway.json").write_text(json.dumps(told))
    (root / "servers.json").write_text(json.dumps({"r1": [100, CONCURRENCY, [["127.0.0.1", upstream]]]}))
    (root / "token").write_text("none")
    command = [sys.executable, "-m", "modelyard_gateway", f"--port={port}", f"--admin-port={admin}"]
    command += ["--api=http://127.0.0.1:9", f"--account={root}", f"--scratch={root}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment[codes.ENV_GATEWAY_CONFIG] = str(root / "gateway.json")
    with (root / "log").open("wb") as log, on(CALLERS):
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _await(process, f"http://127.0.0.1:{port}/v2/health/ready", root / "log")
        yield port
    finally:
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < ends:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the gateway isn't ready: {log.read_text()[-1000:]}")
