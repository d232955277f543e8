"""What the gateway costs: beside plain HAProxy, which does none of its duties, and beside no proxy at all.

The proxy has one processor, its upstream and its callers the other. Subjects are alternated; a figure is the median of
the rounds. "new heads": each request has an id of its own, so that no head comes twice.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from modelyard.contract import codes

from tests.bench.sections import Row, Rows
from tests.gateway.running import free_port

TITLE = "Gateway alone, with a server that answers at once"
CLIENTS = (1, 8, 64)
KINDS = ("same heads", "new heads")
ROUNDS = 3
SECONDS = 3.0
CONNECTIONS = 2000

_HAPROXY = """
global
  nbthread 1
  maxconn 6000
defaults
  mode http
  timeout connect 2s
  timeout client 75s
  timeout server 300s
  timeout http-request 10s
frontend callers
  bind 127.0.0.1:{port}
  maxconn 5000
  default_backend servers
backend servers
  balance leastconn
  http-reuse always
  option redispatch 1
  retries 2
  retry-on conn-failure empty-response 503
  server s1 127.0.0.1:{upstream} maxconn 4096
"""


class Subject:
    """A proxy that runs, or none (`process` None); where it is asked."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes] | None) -> None:
        self.name, self.port, self.process = name, port, process

    def cpu(self) -> float:
        """Seconds that it has computed, all its threads."""
        if self.process is None:
            return 0.0
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory(self) -> float:
        """Resident MB."""
        if self.process is None:
            return 0.0
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def measure(rows: Rows) -> None:
    """Appends a row for each subject and number of clients, and what 2,000 connections cost."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subjects = stack.enter_context(_running(folder))
        samples = _sample(subjects)
        for clients in CLIENTS:
            for kind in KINDS:
                base = samples[subjects[0].name, clients, kind]
                for subject in subjects:
                    with rows.measure(subject=subject.name, clients=clients, heads=kind) as row:
                        row.update(_summarise(samples[subject.name, clients, kind], base))
        for subject in subjects[1:]:
            with rows.measure(subject=subject.name, clients=CONNECTIONS) as row:
                row.update(_hold(subject))
        if len(subjects) < 3:
            rows.append({"subject": "HAProxy", "error": "not measured: install Debian's package haproxy"})


def _sample(subjects: Sequence[Subject]) -> dict[tuple[str, int, str], list[Row | Exception]]:
    """One for each round, by subject, clients and kind; what failed is a failure of that alone."""
    samples: dict[tuple[str, int, str], list[Row | Exception]] = {}
    for number in range(ROUNDS):
        order = subjects if number % 2 == 0 else subjects[::-1]
        for clients in CLIENTS:
            for kind in KINDS:
                for subject in order:
                    told: Row | Exception
                    try:
                        told = _press(subject, clients, kind)
                    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                        told = error
                    samples.setdefault((subject.name, clients, kind), []).append(told)
    return samples


def _press(subject: Subject, clients: int, kind: str) -> Row:
    """Raises RuntimeError for a request that wasn't answered."""
    before = subject.cpu()
    arguments = [str(subject.port), str(clients), str(SECONDS)]
    told = _run("clients", *arguments, *(["anew"] if kind == "new heads" else []))
    if told["errors"] or not told["requests"]:
        raise RuntimeError(f"{subject.name}: {told['errors'][:3] or 'nothing was answered'}")
    # Warming up is half a second more.
    told["cpu_us"] = (subject.cpu() - before) / (told["per_s"] * (SECONDS + 0.5)) * 1e6
    return told


def _summarise(found: Sequence[Row | Exception], base: Sequence[Row | Exception]) -> Row:
    """Raises the first failure of the two."""
    good: list[list[Row]] = [[], []]
    for rows, samples in zip(good, (found, base), strict=True):
        for sample in samples:
            if isinstance(sample, Exception):
                raise sample
            rows.append(sample)
    return _compare(*good)


def _compare(found: Sequence[Row], base: Sequence[Row]) -> Row:
    def median(rows: Sequence[Row], name: str) -> float:
        return float(statistics.median(row[name] for row in rows))

    return {
        "requests/s": round(median(found, "per_s")),
        "p50 ms": round(median(found, "p50_ms"), 3),
        "p99 ms": round(median(found, "p99_ms"), 2),
        "added p50 ms": round(median(found, "p50_ms") - median(base, "p50_ms"), 3),
        "added p99 ms": round(median(found, "p99_ms") - median(base, "p99_ms"), 2),
        "CPU us/request": round(median(found, "cpu_us"), 1),
    }


def _hold(subject: Subject) -> Row:
    """Memory with so many connections: idle, and each with a request of a second."""
    command = [sys.executable, "-m", "tests.bench.gatewayload", "hold", str(subject.port), str(CONNECTIONS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        idle = subject.memory()
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(0.7)
        busy = subject.memory()
        right = int(process.stdout.readline())
        process.stdin.close()
    if right != CONNECTIONS:
        raise RuntimeError(f"{right} of {CONNECTIONS} requests were answered")
    return {"MB idle": round(idle), "MB busy": round(busy)}


@contextmanager
def _running(folder: Path) -> Iterator[list[Subject]]:
    """No proxy, plain HAProxy if there is one, and the gateway."""
    processors = sorted(os.sched_getaffinity(0))
    mine = {processors[-1]}
    upstream = free_port()
    started: list[subprocess.Popen[bytes]] = []
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, mine)  # and of what is started from here: upstream and callers
        started.append(_start(folder, "tests.bench.gatewayload", "upstream", str(upstream)))
        subjects = [Subject("none", upstream, None)]
        proxies = {processors[0]}
        haproxy = shutil.which("haproxy")
        if haproxy:
            port = free_port()
            (folder / "haproxy.cfg").write_text(_HAPROXY.format(port=port, upstream=upstream))
            process = subprocess.Popen([haproxy, "-f", str(folder / "haproxy.cfg")])
            os.sched_setaffinity(process.pid, proxies)
            started.append(process)
            subjects.append(Subject("HAProxy, plain", port, process))
        port = free_port()
        process = _start_gateway(folder, port, upstream)
        os.sched_setaffinity(process.pid, proxies)
        started.append(process)
        subjects.append(Subject("gateway", port, process))
        for subject in subjects:
            _await(subject)
        yield subjects
    finally:
        for process in started:
            process.kill()
            process.wait()
        os.sched_setaffinity(0, before)


def _start_gateway(folder: Path, port: int, upstream: int) -> subprocess.Popen[bytes]:
    """A real one, with its log; it goes on with what it saw last, as there is no API server."""
    (folder / "gateway.json").write_text(json.dumps({"name": "m", "namespace": "ns", "deployment": "d"}))
    (folder / "servers.json").write_text(json.dumps({"r1": [100, 0, [["127.0.0.1", upstream]]]}))
    (folder / "token").write_text("none")
    options = [f"--port={port}", f"--admin-port={free_port()}", "--api=http://127.0.0.1:9"]
    options += [f"--account={folder}", f"--scratch={folder}"]
    return _start(
        folder, "modelyard_gateway", *options, **{codes.ENV_GATEWAY_CONFIG: str(folder / "gateway.json")}
    )


def _start(folder: Path, *command: str, **environment: str) -> subprocess.Popen[bytes]:
    with (folder / f"{command[0]}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            env=_environment() | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _await(subject: Subject) -> None:
    for _ in range(100):
        try:
            _run("clients", str(subject.port), "1", "0.05")
            return
        except subprocess.CalledProcessError:
            time.sleep(0.1)
    raise RuntimeError(f"{subject.name} doesn't answer")


def _run(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.gatewayload", *arguments]
    done = subprocess.run(
        command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=60
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
