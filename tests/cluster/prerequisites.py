"""The programs that the cluster needs from the system, installed when that is possible, else named."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from . import cache, versions
from .shell import DOWNLOAD, ClusterError, attempt, find, run_online, say


def missing_packages(programs: Iterable[str]) -> list[str]:
    """Return the Debian packages of those `programs` that are not there."""
    absent = [name for name in programs if not (Path(name).exists() if name.startswith("/") else find(name))]
    return sorted({versions.PACKAGES[name] for name in absent})


def ensure_system(control_plane_only: bool) -> None:
    """Have all programs of a cluster; raise ClusterError where that can not be done."""
    ensure_root()
    ensure_programs(versions.CONTROL_PLANE_PROGRAMS if control_plane_only else versions.NODE_PROGRAMS)


def ensure_programs(programs: Iterable[str]) -> None:
    """Install what is missing with apt-get; raise ClusterError naming it when that can not be done."""
    wanted = list(programs)
    packages = missing_packages(wanted)
    if not packages:
        return
    if os.geteuid() != 0 or not find("apt-get"):
        raise ClusterError(f"install these first (Debian's names): {' '.join(packages)}")
    # The cluster and the images are made side by side, and apt-get doesn't wait for another one.
    with cache.locked(cache.root() / "apt.lock", "installing Debian's packages"):
        packages = missing_packages(wanted)
        if packages:
            say(f"installing {' '.join(packages)}")
            quiet = {"DEBIAN_FRONTEND": "noninteractive"}
            attempt(["apt-get", "update", "-qq"], seconds=DOWNLOAD)
            run_online(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=quiet)


def ensure_root() -> None:
    """Raise ClusterError unless this user may make bridges, mounts and control groups."""
    if os.geteuid() != 0:
        raise ClusterError(
            "the cluster without Docker needs root (bridges, mounts, control groups): use sudo, "
            "or install Docker and kind, which this tool uses where both are there"
        )


def ensure_go() -> str:
    """Return the Go toolchain's path."""
    program = find("go") or ("/usr/local/go/bin/go" if Path("/usr/local/go/bin/go").exists() else None)
    if not program:
        raise ClusterError("Go is missing, which builds the cluster's components: install Go 1.24 or later")
    return program
