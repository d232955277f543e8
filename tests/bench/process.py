"""CPU seconds and memory of a process, and the operator as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import IO

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, in seconds; the clock ticks every 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_mib(pid: int) -> float:
    """Resident memory in MiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


class Operator:
    """`python -m modelyard run` from the checkout."""

    def __init__(
        self, kubeconfig: str, profiles: Path, log: Path, *flags: str, script: Path | None = None
    ) -> None:
        """`flags` are passed on; `script` runs another entry than `-m modelyard`."""
        entry = [str(script)] if script else ["-m", "modelyard"]
        self.arguments = [
            sys.executable, *entry, "run", "--kubeconfig", kubeconfig, "--profiles", str(profiles),
            "--metrics-host", "127.0.0.1", "--metrics-port", "0", *flags,
        ]  # fmt: skip
        self.env: dict[str, str] = {}
        self.started_at = 0  # where in the log the present process began
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.output: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running operator. Raises RuntimeError, with the end of its log, when it has ended by itself."""
        if self.process is None:
            raise RuntimeError("the operator does not run")
        # A process that has ended and was not waited for still has a pid: it would be measured as one at rest.
        if self.process.poll() is not None:
            raise RuntimeError(
                f"the operator ended by itself with {self.process.returncode}; its log {self.log} ends: {self.tail(3)}"
            )
        return self.process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def leads(self) -> bool:
        """Whether the present process has said that it may write: after a killed one that takes the Lease's time."""
        return b'"message": "leading"' in self.log.read_bytes()[self.started_at :]

    def scrape(self) -> str:
        """Its metrics. Raises RuntimeError before it has said where they are."""
        for line in self.log.read_bytes()[self.started_at :].splitlines():
            if b'"message": "starting"' in line:
                port = int(json.loads(line)["port"])
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    return str(answer.read().decode())
        raise RuntimeError(f"the operator has not said where its metrics are: {self.tail(3)}")

    def tail(self, lines: int) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def start(self) -> float:
        """Starts it; the monotonic time of the start."""
        self.output = self.log.open("ab")
        self.started_at = self.log.stat().st_size
        began = time.monotonic()
        self.process = subprocess.Popen(
            self.arguments, stdout=self.output, stderr=self.output, env={**os.environ, **self.env}
        )
        return began

    def stop(self, signum: int = signal.SIGTERM, seconds: float = 60) -> float:
        """Stops it and waits; seconds it took. Raises TimeoutError when it had to be killed after `seconds`."""
        began = time.monotonic()
        process, self.process = self.process, None
        try:
            if process is not None:
                process.send_signal(signum)
                _wait(process, seconds)
        finally:
            if self.output is not None:
                self.output.close()
                self.output = None
        return time.monotonic() - began


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
        raise TimeoutError(
            f"the operator was told to end and had to be killed {seconds:.0f} s later"
        ) from None
