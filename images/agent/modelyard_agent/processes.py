"""The tree of processes below the agent: start, watch, end, reap."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Dict, List, Mapping, NamedTuple, Optional, Sequence

_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")


class Process(NamedTuple):
    """One line of the process table."""

    pid: int
    parent: int
    state: str


def become_reaper() -> None:
    """Let orphans below us become our children also where we aren't PID 1 (a shared process namespace)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def list_descendants(root: int) -> List[Process]:
    """All processes below `root`, zombies included."""
    children: Dict[int, List[Process]] = {}
    for entry in _PROC.iterdir():
        process = _read_process(int(entry.name)) if entry.name.isdigit() else None
        if process is not None:
            children.setdefault(process.parent, []).append(process)
    found: List[Process] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += [process.pid for process in below]
    return found


def read_environment(pid: int) -> Dict[str, str]:
    """Environment that a process was started with; empty where it can't be read."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if b"=" in item)
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, _, value in pairs}


class Child:
    """The agent's one child, in a session of its own, and all that it starts."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        """Raises OSError if the command can't be started."""
        self._process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self._process.pid

    @property
    def pipe(self) -> IO[bytes]:
        """Its output and errors."""
        assert self._process.stdout is not None  # noqa: S101 - made by stdout=PIPE
        return self._process.stdout

    def poll(self) -> Optional[int]:
        """Exit code (negative: the signal), or None while it runs."""
        return self._process.poll()

    def watch(self) -> List[Process]:
        """The living processes below the agent, its child's included; reaps orphans that ended."""
        below = list_descendants(os.getpid())
        for process in below:
            if process.state == "Z" and process.parent == os.getpid() and process.pid != self.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
        return [process for process in below if process.state != "Z"]

    def terminate(self) -> None:
        """Ask the process to end. torchrun passes the signal on to its workers."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def kill(self, wait_seconds: float = 5.0) -> None:
        """End everything below the agent. torchrun's workers lead sessions of their own."""
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline:
            left = self.watch()
            if not left and self.poll() is not None:
                return
            for process in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.02)


def _read_process(pid: int) -> Optional[Process]:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent = stat[stat.rindex(")") + 2 :].split()[:2]  # the name before may hold blanks and brackets
    return Process(pid, int(parent), state)
