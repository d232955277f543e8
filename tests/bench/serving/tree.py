"""CPU seconds and memory of a process and all that descend from it, those that have ended included."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TICK = os.sysconf("SC_CLK_TCK")
# A look through /proc takes some milliseconds of CPU; the memory of a process one for each 100 MiB, during which it can
# map nothing. More often they would disturb what they measure.
LOOK_SECONDS, MEMORY_SECONDS = 0.25, 1.0
Key = tuple[int, int]  # pid and start time: pids come again


@dataclass(frozen=True)
class Process:
    """One line of /proc/*/stat: CPU seconds of its own, and of the children that it has waited for (all of theirs
    included)."""

    pid: int
    started: int
    parent: int
    own: float
    children: float

    @property
    def key(self) -> Key:
        """What it is for as long as the machine runs."""
        return self.pid, self.started


def read_process(pid: int) -> Process | None:
    """None: there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    user, system, children_user, children_system = map(int, fields[11:15])
    return Process(
        pid, int(fields[19]), int(fields[1]), (user + system) / TICK, (children_user + children_system) / TICK
    )


def read_memory(pid: int) -> float:
    """Proportional set size in MiB: pages that processes share are counted once over all of them; 0: there is none."""
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


class Tree:
    """Watches a process tree within `with`, from a thread: who belongs to it each LOOK_SECONDS, and each MEMORY_SECONDS
    its memory.

    A process stays in the tree though its parent ends. CPU time of one that has ended is in the count of children of
    the ancestor that lives on, if all between them waited for each other. What that count hasn't grown by is added
    here, as it was last seen: what such a process did after that is lost, at most LOOK_SECONDS of it. So is one that
    was never seen and that nobody waited for, and as much as others used who came, ended and were waited for between
    the same two looks.
    """

    def __init__(self, pid: int) -> None:
        root = read_process(pid)
        if root is None:
            raise ProcessLookupError(f"there is no process {pid}")
        self.peak_mib = 0.0  # the greatest that was seen
        self._root = root.key
        self._known: dict[Key, Process] = {root.key: root}
        self._lost = 0.0
        self._cpu = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def look(self) -> float:
        """CPU seconds of the tree until now; the system cuts each figure of a process off to 10 ms.

        Raises ProcessLookupError when its root has ended.
        """
        with self._lock:
            seen = self._find()
            if self._root not in seen:
                raise ProcessLookupError(f"the process {self._root[0]} has ended")
            self._lost += self._count_lost(seen)
            self._known = seen
            # A process that ends while others are read is in two figures, or in none until the next look.
            now = self._lost + sum(process.own + process.children for process in seen.values())
            self._cpu = max(self._cpu, now)
            return self._cpu

    def _find(self) -> dict[Key, Process]:
        """The living members."""
        everyone = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and (process := read_process(int(entry.name))):
                everyone[process.pid] = process
        members = {p.key: p for p in everyone.values() if p.key in self._known}
        children: dict[int, list[Process]] = {}
        for process in everyone.values():
            children.setdefault(process.parent, []).append(process)
        new = list(members.values())
        while new:
            for child in children.get(new.pop().pid, ()):
                if child.key not in members:
                    members[child.key] = child
                    new.append(child)
        # Parents come before children: once all of them are still there, none was waited for in between and missed.
        while True:
            again = {k: process for k in members if (process := read_process(k[0])) and process.key == k}
            if len(again) == len(members):
                return again
            members = again

    def _count_lost(self, seen: dict[Key, Process]) -> float:
        """CPU seconds of those that have ended and that are in nobody's count."""
        ended: dict[Key | None, float] = {}
        pids = {process.pid: process for process in self._known.values()}
        for key, process in self._known.items():
            if key not in seen:
                above = pids.get(process.parent)
                while above is not None and above.key not in seen:
                    above = pids.get(above.parent)
                heir = above.key if above is not None else None
                ended[heir] = ended.get(heir, 0.0) + process.own + process.children
        lost = ended.pop(None, 0.0)
        for heir, used in ended.items():
            assert heir is not None
            lost += max(0.0, used - (seen[heir].children - self._known[heir].children))
        return lost

    def _watch(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            if time.monotonic() >= due:
                due += MEMORY_SECONDS
                with self._lock:
                    pids = [process.pid for process in self._known.values()]
                self.peak_mib = max(self.peak_mib, sum(map(read_memory, pids)))
            self._stop.wait(LOOK_SECONDS)
            try:
                self.look()
            except ProcessLookupError:
                return  # `look` tells who asks
