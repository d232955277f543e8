"""Starting a server, asking it, and stopping it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from modelyard.contract import codes

LONGEST = 120.0  # seconds that anything here may take


@dataclass
class Server:
    """A process, and where it answers."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    result: Path

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=10)

    def infer(self, *texts: str, **more: Any) -> httpx2.Response:
        tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
        return httpx2.post(f"{self.url}/v2/models/toy/infer", json={"inputs": [tensor], **more}, timeout=60)

    def readiness(self) -> tuple[int, str]:
        """Status and reason; 0 while nobody listens."""
        try:
            response = self.get("/v2/health/ready")
        except httpx2.TransportError:
            return 0, ""
        return response.status_code, response.json().get("error", "")

    def until(self, what: str, condition: Any) -> None:
        ends = time.monotonic() + LONGEST
        while not condition():
            assert time.monotonic() < ends, f"no {what}:\n{self.log.read_text()}"
            assert self.process.poll() is None, f"ended before {what}:\n{self.log.read_text()}"
            time.sleep(0.02)

    def until_ready(self) -> None:
        self.until("readiness", lambda: self.readiness()[0] == 200)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        return self.process.wait(LONGEST)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    folder: Path,
    root: Path,
    task: str = "text-classification",
    program: Sequence[str] = ("-m", "modelyard_server"),
    *,
    storage: Path | None = None,
    **config: Any,
) -> Iterator[Server]:
    """A server of the model in `folder`; killed at the end if it still runs. `root` is for its files.

    `storage` is what the config's paths are below; the folder's parent where it isn't given.
    """
    root.mkdir(parents=True, exist_ok=True)
    storage = storage or folder.parent
    told = {"name": "toy", "task": task, "folder": folder.relative_to(storage).as_posix(), **config}
    (root / "server.json").write_text(json.dumps(told))
    port = free_port()
    environment = {
        **os.environ,
        codes.ENV_SERVER_CONFIG: str(root / "server.json"),
        codes.ENV_STORAGE: str(storage),
        codes.ENV_RUNTIME_DIR: str(root),
        codes.ENV_SERVER_PORT: str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *program], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    server = Server(process, f"http://127.0.0.1:{port}", root / "log", root / codes.RESULT_FILE)
    try:
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
