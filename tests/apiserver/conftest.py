"""A real API server, kubectl, namespaces, and operators run as processes against it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.inprocess import Scenario, install_crds, run_beside_engine

ROOT = Path(__file__).parents[2]
CLUSTER = "apitest"
PROFILES = (
    "profiles: {default: {trainerImage: localhost/trainer:1, serverImage: localhost/server:1,"
    " gatewayImage: localhost/gateway:1, agentImage: localhost/agent:1}}\n"
)
RAN = pytest.StashKey[bool]()
Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]
REPEATABLE = frozenset({"get", "wait", "apply"})
OVERLOADED = (
    "request did not complete within",  # 504, the API server's own minute
    "etcdserver: request timed out",
    "etcdserver: leader changed",
    "too many requests",
    "Too many requests",
    "TLS handshake timeout",
)


def _cluster(*arguments: str, seconds: float, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cluster", *arguments, "--name", CLUSTER]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{' '.join(command)} was not done after {seconds:.0f} s") from error
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done


def pytest_sessionstart(session: pytest.Session) -> None:
    """Notes, once for all of xdist's workers, whether the cluster was running before the tests."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[RAN] = _cluster("status", seconds=60, check=False).returncode == 0


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A cluster that ran before the tests goes on running after them."""
    if session.config.stash.get(RAN, True) is False:
        _cluster("down", seconds=120)


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """Path of an administrator's kubeconfig."""
    _cluster("up", "--control-plane-only", seconds=1800)  # the first one builds Kubernetes
    return _cluster("kubeconfig", seconds=60).stdout.strip()


def run_kubectl(
    command: list[str], input: str | None = None, check: bool = True, pause: float = 2.0
) -> subprocess.CompletedProcess[str]:
    """Runs kubectl; what only reads, or says how something shall be, is repeated on an overloaded server.

    Raises AssertionError with what it wrote when it fails (unless `check` is false) or takes two minutes.
    """
    said = f"kubectl {' '.join(command[1:])}"
    for last in (False, False, True):
        try:
            done = subprocess.run(
                command, input=input, capture_output=True, text=True, timeout=120, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{said}: was not done after 120 s") from error
        overloaded = any(words in done.stderr for words in OVERLOADED)
        if last or not done.returncode or not overloaded or not REPEATABLE & set(command):
            break
        time.sleep(pause)
    if check and done.returncode:
        raise AssertionError(f"{said}: {done.stderr}{done.stdout}")
    return done


@pytest.fixture(scope="session")
def kubectl(kubeconfig: str) -> Kubectl:
    """Runs kubectl; its output is captured, and a failure raises with it."""
    cache = Path(os.environ.get("MODELYARD_CACHE", Path.home() / ".cache" / "modelyard"))
    binary = str(cache / "bin" / "kubectl")
    if not Path(binary).exists():
        binary = shutil.which("kubectl") or "kubectl"

    def run(
        *arguments: str, input: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return run_kubectl([binary, "--kubeconfig", kubeconfig, *arguments], input, check)

    return run


@pytest.fixture(scope="session")
def crds(kubectl: Kubectl) -> None:
    """The project's CustomResourceDefinitions, served."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/trainingjobs.modelyard.dev",
            "crd/modeldeployments.modelyard.dev")  # fmt: skip
    kubectl(
        "get", "trainingjobs,modeldeployments", "--all-namespaces"
    )  # the first request of a new kind takes seconds


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def made_up_kinds(kubectl: Kubectl) -> None:
    """The made-up kinds of the engine's tests, served."""
    install_crds(kubectl)


@pytest.fixture
def engine(
    kubeconfig: str, kubectl: Kubectl, made_up_kinds: None, namespace: str
) -> Callable[[Scenario], None]:
    """Runs a scenario beside an engine that works in the test's namespace."""
    return lambda scenario: run_beside_engine(kubeconfig, kubectl, namespace, scenario)


class OperatorProcess:
    """One `python -m modelyard run`. `log` is its file of JSON lines."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), str(ROOT)])},
            )

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        text = self.log.read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def wait_for(self, message: str, timeout: float = 30.0) -> dict[str, Any]:
        """Waits for a log message, and returns its line."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for line in self.lines():
                if line["message"] == message:
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {message!r} within {timeout} s:\n{self.log.read_text()[-4000:]}")

    def metric(self, pattern: str) -> float:
        """Sum of the samples whose name and labels match."""
        return sum(self.samples(pattern).values())

    def samples(self, pattern: str) -> dict[str, float]:
        """These samples, by name and labels."""
        port = self.wait_for("starting")["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in samples if re.fullmatch(pattern, name)}

    def leads(self) -> bool:
        """Whether it may write."""
        return self.metric("modelyard_leader") == 1

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 25.0) -> int:
        """Sends a signal and waits for the end. Returns the exit code, negative for a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout)

    def complaints(self) -> list[str]:
        """Lines that an operator in good order never logs."""
        return [json.dumps(line) for line in self.lines() if line["level"] == "error"]


StartOperator = Callable[..., OperatorProcess]


@pytest.fixture
def operator(kubeconfig: str, crds: None, namespace: str, tmp_path: Path) -> Iterator[StartOperator]:
    """Starts operators of the test's namespace; ends them with the test.

    `operator("--workers", "1")` passes flags on; `script` runs another entry than `-m modelyard`.
    """
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text(PROFILES)
    started: list[OperatorProcess] = []

    def start(*flags: str, script: Path | None = None) -> OperatorProcess:
        entry = [str(script)] if script else ["-m", "modelyard"]
        command = [sys.executable, *entry, "run", "--kubeconfig", kubeconfig, "--profiles", str(profiles)]
        command += ["--namespace", namespace, "--lease-namespace", namespace]
        command += ["--metrics-host", "127.0.0.1", "--metrics-port", "0", *flags]
        process = OperatorProcess(command, tmp_path / f"operator-{len(started)}.log")
        started.append(process)
        return process

    yield start
    for process in started:
        process.process.kill()  # all of them before any is waited for
    for process in started:
        process.process.wait(25)
