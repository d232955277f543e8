"""How much more memory the pod may take."""

from __future__ import annotations

import re
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def read_available(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int | None:
    """Bytes that can still be taken: the node's, and within the container's limit (cgroup v1 and v2).

    Cached file content counts as free, since the kernel drops it when memory is asked for. None if nothing
    is known.
    """
    found = [free for free in (_of_node(meminfo), _of_container(cgroup)) if free is not None]
    return max(0, min(found)) if found else None


def _of_node(meminfo: Path) -> int | None:
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(meminfo), re.MULTILINE)
    return int(match[1]) << 10 if match else None


def _of_container(cgroup: Path) -> int | None:
    for folder, limit, used, cached in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _read(folder / limit).strip(), _read(folder / used).strip()
        if most.isdigit() and now.isdigit():
            match = re.search(rf"^{cached} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
            return int(most) - int(now) + (int(match[1]) if match else 0)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
