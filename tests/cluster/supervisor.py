"""Start and stop a cluster's processes: pid files, log files, and a mark by which a lost process is found.

A pid file alone is not enough: a start killed between fork and write leaves a process nobody knows, and
after a reboot the number belongs to somebody else. So every process carries in its environment which
component of which cluster it is, and how it was started.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .cache import file_hash
from .shell import ClusterError

MARK = "MODELYARD_CLUSTER_COMPONENT"
KILL_SECONDS = 20  # what a disk that hangs may keep a killed process waiting
FINGERPRINT = "MODELYARD_CLUSTER_FINGERPRINT"


@dataclass(frozen=True)
class Component:
    """A long-running process. It is started again when its command, binary or `files` have changed.

    `enter` comes before the command: a program that becomes it, in another network.
    """

    name: str
    command: list[str]
    files: Sequence[Path] = ()
    env: dict[str, str] = field(default_factory=dict)
    enter: Sequence[str] = ()

    def fingerprint(self) -> str:
        """Return a hash of everything that decides how the process behaves."""
        parts = [*self.enter, *self.command, *(f"{key}={value}" for key, value in sorted(self.env.items()))]
        parts += [file_hash(path) for path in (Path(self.command[0]), *self.files)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def environment_of(pid: int) -> dict[str, str]:
    """Return a process's environment, empty for one that is gone, a zombie, or not ours to read.

    A zombie has no environment, which is right here: PID 1 of a container may collect it seconds later.
    """
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(pair.decode(errors="replace").split("=", 1) for pair in pairs if b"=" in pair)


BEGINNING_SECONDS = 1.0


class Supervisor:
    """The processes of one cluster; `folder` identifies it."""

    def __init__(self, folder: Path, run: Path, logs: Path) -> None:
        self._folder, self._run, self._logs = folder, run, logs

    def pid(self, name: str) -> int | None:
        """Return the pid of a running component, also of one whose pid file was never written."""
        recorded = self._recorded(name)
        # Whoever stops what was started a moment ago must not take it for gone. A pid taken over may stay like that.
        deadline = time.monotonic() + BEGINNING_SECONDS
        while recorded and is_beginning(recorded) and time.monotonic() < deadline:
            time.sleep(0.01)
        if recorded and self._is(recorded, name):
            return recorded
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is(int(entry.name), name):
                self._record(name, int(entry.name))
                return int(entry.name)
        return None

    def ensure(self, component: Component) -> bool:
        """Start the component unless it runs as described; tell whether it was started."""
        pid, fingerprint = self.pid(component.name), component.fingerprint()
        if pid and environment_of(pid).get(FINGERPRINT) == fingerprint:
            return False
        if pid:
            self.stop([component.name])
        self._run.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        mark = {MARK: self._mark(component.name), FINGERPRINT: fingerprint}
        with self.log(component.name).open("wb") as log:
            process = subprocess.Popen(
                [*component.enter, *component.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **component.env, **mark},
                start_new_session=True,
                cwd="/",
            )
        self._record(component.name, process.pid)
        # It outlives this program on purpose; without this Python warns about it at exit.
        process.returncode = 0
        return True

    def stop(self, names: Iterable[str], seconds: float = 10.0) -> None:
        """Stop components together: SIGTERM, then SIGKILL to what is left after `seconds`.

        Raises ClusterError, when all have been seen to, naming those that do not end even so.
        """
        running = {name: pid for name in names for pid in [self.pid(name)] if pid}
        for pid in running.values():
            _send(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        unending = []
        for name, pid in running.items():
            while self._is(pid, name):
                if time.monotonic() > deadline:
                    _send(pid, signal.SIGKILL)
                if time.monotonic() > deadline + KILL_SECONDS:
                    unending.append(f"{name} (pid {pid})")
                    break
                time.sleep(0.02)
            else:
                (self._run / f"{name}.pid").unlink(missing_ok=True)
        for name in names:
            if name not in running:
                (self._run / f"{name}.pid").unlink(missing_ok=True)
        if unending:
            raise ClusterError(f"{', '.join(unending)} did not end within {KILL_SECONDS} s of SIGKILL")

    def log(self, name: str) -> Path:
        """Return where the component's output goes; it is emptied at each start."""
        return self._logs / f"{name}.log"

    def complain(self, name: str) -> str:
        """Return where to look when a component does not become ready, with its last words."""
        try:
            words = self.log(name).read_text(errors="replace").splitlines()[-5:]
        except OSError:
            words = []
        return "\n".join([f"its log is {self.log(name)} and ends:", *(word[:400] for word in words)])

    def must_run(self, name: str) -> None:
        """Raise ClusterError with the end of its log when a component has died."""
        recorded = self._recorded(name)
        if not self.pid(name) and not (recorded and is_beginning(recorded)):
            raise ClusterError(f"{name} has stopped; {self.complain(name)}")

    def _mark(self, name: str) -> str:
        return f"{self._folder}:{name}"

    def _is(self, pid: int, name: str) -> bool:
        # containerd's shims inherit its environment, but not its program.
        environment = environment_of(pid)
        return environment.get(MARK) == self._mark(name) and not is_shim(pid)

    def _recorded(self, name: str) -> int | None:
        try:
            return int((self._run / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None

    def _record(self, name: str, pid: int) -> None:
        partial = self._run / f"{name}.pid.new"
        partial.write_text(str(pid))
        partial.replace(self._run / f"{name}.pid")


def is_beginning(pid: int) -> bool:
    """Tell whether a process was started a moment ago: the kernel shows no environment of it yet.

    On a busy machine that moment, between two steps of exec, was long enough to be taken for a death.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return False
    return state not in ("Z", "X") and not environment_of(pid)


def is_shim(pid: int) -> bool:
    """Tell whether a process is a container's shim rather than containerd, whose environment it inherits."""
    try:
        return b"containerd-shim" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 1)[0]
    except OSError:
        return True


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
