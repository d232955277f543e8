"""Prometheus' programs: those on PATH, or Debian's, unpacked into the cache."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.cluster import cache

PACKAGE = "prometheus"
PROGRAMS = ("prometheus", "promtool")


def find(program: str) -> Path:
    """The path of one of PROGRAMS. Raises AssertionError that says what to install where there is none to be had."""
    present = shutil.which(program)
    if present:
        return Path(present)
    folder = cache.root() / "bin"
    with cache.locked(folder / "prometheus.lock", "fetching Prometheus"):
        stamp = folder / "prometheus.stamp"
        if not cache.is_current(stamp, PACKAGE):
            _fetch(folder)
            cache.write_stamp(stamp, PACKAGE, [folder / name for name in PROGRAMS])
    return folder / program


def _fetch(folder: Path) -> None:
    """Out of Debian's package, whose signature apt checks. It is not installed: it would start a service."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        if _run(["apt-get", "download", "-q", PACKAGE], place).returncode:
            _run(["apt-get", "update", "-q"], place)  # a new machine has no lists yet
            done = _run(["apt-get", "download", "-q", PACKAGE], place)
            assert done.returncode == 0, f"there is no Prometheus; install it. {done.stderr[-500:]}"
        (package,) = place.glob("*.deb")
        unpacked = _run(["dpkg", "-x", str(package), "unpacked"], place)
        assert unpacked.returncode == 0, unpacked.stderr
        folder.mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            partial = folder / f"{name}.new"
            shutil.copy2(place / "unpacked" / "usr" / "bin" / name, partial)
            partial.replace(folder / name)


def _run(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError as error:
        raise AssertionError(
            f"there is no Prometheus and no {command[0]}: put prometheus and promtool on PATH"
        ) from error
