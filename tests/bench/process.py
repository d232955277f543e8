"""CPU seconds and memory of a process, and the operator as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
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

    def __init__(self, kubeconfig: str, profiles: Path, log: Path, port: int = 18080) -> None:
        self.arguments = [
            sys.executable, "-m", "modelyard", "run", "--kubeconfig", kubeconfig, "--profiles", str(profiles),
            "--metrics-port", str(port),
        ]  # fmt: skip
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.output: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running operator."""
        if self.process is None:
            raise RuntimeError("the operator does not run")
        return self.process.pid

    def start(self) -> float:
        """Starts it; the monotonic time of the start."""
        self.output = self.log.open("ab")
        began = time.monotonic()
        self.process = subprocess.Popen(self.arguments, stdout=self.output, stderr=self.output)
        return began

    def stop(self, signum: int = signal.SIGTERM) -> float:
        """Stops it and waits; seconds it took."""
        began = time.monotonic()
        if self.process is not None:
            self.process.send_signal(signum)
            self.process.wait(60)
            self.process = None
        if self.output is not None:
            self.output.close()
            self.output = None
        return time.monotonic() - began
