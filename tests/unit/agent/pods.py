"""Builders: a pod with folders of its own, and the fake trainers that run in it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.contract.report import PrepareResult, ProgressReport, TrainResult

ROOT = Path(__file__).resolve().parents[3]
PYTHON_PATH = os.pathsep.join(str(ROOT / folder) for folder in ("operator", "images/agent"))
RUN_DIR = "runs/team/job-12345678"
PATIENCE_SECONDS = 60.0

# What every fake trainer starts with: its folders, the agent's port and client, and small helpers.
PRELUDE = """
import json, os, signal, sys, time
from pathlib import Path
from modelyard_agent.client import Client
runtime = Path(os.environ["MODELYARD_RUNTIME_DIR"])
storage = Path(os.environ["MODELYARD_STORAGE"])
port = int(os.environ["MODELYARD_AGENT_PORT"])
client = Client(port)

def put(name, value):
    path = runtime / name
    path.with_suffix(".tmp").write_text(json.dumps(value))
    path.with_suffix(".tmp").rename(path)

def wait_for(condition):
    while not condition():
        time.sleep(0.01)

def save(step, attempt=0, **info):
    path = "%s/a%d/checkpoint-%d" % (os.environ["MODELYARD_RUN_DIR"], attempt, step)
    (storage / path).mkdir(parents=True)
    (storage / path / "model.bin").write_bytes(b"weights of step %d" % step)
    known = dict(step=step, path=path, attempt=attempt, worldSize=2, saveSeconds=0.5, **info)
    assert client.request_verification(**known)
    return client.wait_for_verification(step, 60)

put("port.json", port)
"""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The condition's first true value; fails, naming what was waited for, if it doesn't come."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen in {PATIENCE_SECONDS:.0f} s")


class AgentPod:
    """One pod: `start` a fake trainer in it, look at it from outside, and see how it ends."""

    def __init__(self, folder: Path, stage: str = "train", **settings: Any):
        self.storage = folder / "storage"
        self.runtime = folder / "runtime"
        self.termination = folder / "termination-log"
        for path in (self.storage, self.runtime):
            path.mkdir(parents=True, exist_ok=True)
        self.termination.touch()
        self.settings: dict[str, Any] = {
            "stage": stage,
            "storage": str(self.storage),
            "runtime": str(self.runtime),
            "termination_path": str(self.termination),
            "run_dir": RUN_DIR,
            "port": 0,
            "grace_seconds": 30.0,
            "run_config": {"contractVersion": 1},
            **settings,
        }
        self.environment: dict[str, str] = {}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def run_path(self) -> Path:
        return self.storage / RUN_DIR

    def start(self, trainer: str, user_command: tuple[str, ...] = ()) -> "AgentPod":
        script = self._folder / "trainer.py"
        script.write_text(PRELUDE + trainer, encoding="utf-8")
        spec = self._folder / "pod.json"
        command = [sys.executable, str(script)]
        content = {"settings": self.settings, "command": command, "user_command": list(user_command)}
        spec.write_text(json.dumps(content), encoding="utf-8")
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PYTHON_PATH,
            "MODELYARD_STORAGE": str(self.storage),
            "MODELYARD_RUN_DIR": str(self.settings["run_dir"]),
            **self.environment,
        }
        with (self._folder / "agent.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("driver.py")), str(spec)],
                env=environment,
                stdout=log,
                stderr=log,
            )
        return self

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @property
    def port(self) -> int:
        """Of the agent, once the trainer runs."""
        path = self.runtime / "port.json"
        wait_until(lambda: path.exists() or self.process.poll() is not None, "the trainer's start")
        return int(json.loads(path.read_text(encoding="utf-8")))

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The agent's exit code."""
        return self.process.wait(PATIENCE_SECONDS)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return (self._folder / "agent.log").read_text(encoding="utf-8", errors="replace")

    def result(self) -> TrainResult:
        """The termination message; checks that it fits and follows the contract."""
        data = self.termination.read_bytes()
        assert len(data) <= 4096
        return TrainResult.model_validate_json(data, strict=True)

    def prepare_result(self) -> PrepareResult:
        data = self.termination.read_bytes()
        assert len(data) <= 4096
        return PrepareResult.model_validate_json(data, strict=True)

    def progress(self) -> ProgressReport:
        return ProgressReport.model_validate_json(self.get("/v1/progress")[1], strict=True)

    def get(self, path: str) -> tuple[int, bytes]:
        return _call(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def post(self, path: str, body: object, **headers: str) -> tuple[int, bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return _call(
            urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers)
        )


def _call(request: urllib.request.Request) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
