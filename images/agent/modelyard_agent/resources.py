"""What the container may use, from its cgroup (v1 and v2)."""

import math
import os
import re
from pathlib import Path
from typing import Optional

CGROUP = Path("/sys/fs/cgroup")


def read_cpu_limit(root: Path = CGROUP) -> Optional[float]:
    """CPUs that the container may use, or None without a limit."""
    version2 = _read(root / "cpu.max").split()
    if len(version2) == 2:
        return None if version2[0] == "max" else int(version2[0]) / int(version2[1])
    for controller in ("cpu", "cpu,cpuacct"):
        quota = _read(root / controller / "cpu.cfs_quota_us")
        period = _read(root / controller / "cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            return int(quota) / int(period)
    return None


def read_memory_limit(root: Path = CGROUP) -> Optional[int]:
    """Bytes that the container may use, or None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(root / name)
        # Version 1 has no word for no limit: it says the largest number of pages.
        if text.isdigit() and int(text) < 1 << 60:
            return int(text)
    return None


def read_oom_kills(root: Path = CGROUP) -> int:
    """How many processes of the container the kernel has killed for want of memory."""
    for path in (root / "memory.events", root / "memory" / "memory.oom_control"):
        match = re.search(r"^oom_kill (\d+)$", _read(path), re.MULTILINE)
        if match:
            return int(match.group(1))
    return 0


def count_threads(processes: int, root: Path = CGROUP) -> int:
    """OpenMP threads for each of a node's processes: more than CPUs make a step several times slower."""
    limit = read_cpu_limit(root)
    available = len(os.sched_getaffinity(0))
    cpus = available if limit is None else min(math.floor(limit), available)
    return max(1, cpus // max(1, processes))


def count_gpus(devices: Path = Path("/dev")) -> int:
    """NVIDIA devices in the container; 0 also where there are others."""
    try:
        return sum(1 for entry in devices.iterdir() if re.fullmatch(r"nvidia[0-9]+", entry.name))
    except OSError:
        return 0


def has_accelerator(devices: Path = Path("/dev")) -> bool:
    """True with a device that torchrun counts by itself (NVIDIA, AMD, Gaudi)."""
    return count_gpus(devices) > 0 or any((devices / name).exists() for name in ("kfd", "accel"))


def default_interface(routes: Path = Path("/proc/net/route")) -> Optional[str]:
    """The network interface of the default route."""
    for line in _read(routes).splitlines()[1:]:
        columns = line.split()
        if len(columns) > 1 and columns[1] == "00000000":
            return columns[0]
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
