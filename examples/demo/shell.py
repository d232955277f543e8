"""Programs that the demo runs, and how it fails: with one sentence and what to do."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard")


class DemoError(Exception):
    """Something that the reader can change; the message says what."""


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announces one stage of the demo and says how long it took."""
    print(f"==> {title}", flush=True)
    start = time.monotonic()
    yield
    print(f"    {time.monotonic() - start:.0f} s", flush=True)


@contextmanager
def alone(cluster: str, cache: Path = CACHE) -> Iterator[None]:
    """Lets one demo work on a cluster at a time: a second one would replace the first one's chart and job.

    The kernel releases the lock however the process ends. Raises DemoError where another one holds it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"demo-{cluster}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoError(f"another demo runs on the cluster {cluster}; wait for its end") from error
        yield


def run(command: Sequence[str], what: str, env: Mapping[str, str] | None = None) -> None:
    """Runs a program whose output is for the reader. Raises DemoError where it fails."""
    try:
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    except FileNotFoundError as error:
        raise DemoError(
            f"{what}: the program {command[0]} is missing; install it and run the demo again"
        ) from error
    if code:
        raise DemoError(f"{what} failed ({' '.join(command)}: exit code {code}); its own message is above")


def read(command: Sequence[str], what: str, live: bool = False) -> str:
    """Runs a program and returns what it printed. `live`: its messages (standard error) go to the reader."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=None if live else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "its own message is above" if live else (done.stderr or done.stdout).strip()
        raise DemoError(f"{what} failed ({' '.join(command)}): {said}")
    return done.stdout


@dataclass(frozen=True)
class Kubectl:
    """kubectl and helm of one cluster, in one namespace."""

    kubectl: str
    helm: str
    kubeconfig: str
    namespace: str

    @property
    def env(self) -> dict[str, str]:
        """The environment of programs that talk to this cluster."""
        return {**os.environ, "KUBECONFIG": self.kubeconfig}

    def __call__(self, *args: str, stdin: str | None = None, stream: IO[bytes] | None = None) -> str:
        """Runs kubectl and returns its output; `stdin` is text, `stream` an open file. Raises DemoError."""
        done = subprocess.run(
            [self.kubectl, "-n", self.namespace, *args],
            env=self.env,
            input=None if stdin is None else stdin.encode(),
            stdin=(stream or subprocess.DEVNULL) if stdin is None else None,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise DemoError(
                f"kubectl {' '.join(args[:3])} failed: {done.stderr.decode(errors='replace').strip()}"
            )
        return done.stdout.decode()

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Server-side apply of manifests."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(items))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """One object, or None where there is none."""
        text = self("get", kind, name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found

    def watch(self, target: str) -> None:
        """The live view of Modelyard's command line tool, until the target is at its end.

        Its exit code says how that went, and so does the status, which is read afterwards either way.
        """
        command = [sys.executable, "-m", "modelyard.cli", "watch", target, "--namespace", self.namespace]
        env = {**self.env, "KUBECTL": self.kubectl, "PYTHONPATH": str(ROOT / "operator")}
        subprocess.run(command, cwd=ROOT, env=env, check=False)
