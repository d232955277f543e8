"""promtool: the one on PATH, or Debian's, unpacked into the cache."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.cluster import cache

PACKAGE = "prometheus"


def find() -> Path:
    """Its path. Raises AssertionError that says what to install where there is none to be had."""
    present = shutil.which("promtool")
    if present:
        return Path(present)
    folder = cache.root() / "bin"
    with cache.locked(folder / "promtool.lock", "fetching promtool"):
        stamp = folder / "promtool.stamp"
        if not cache.is_current(stamp, PACKAGE):
            _fetch(folder)
            cache.write_stamp(stamp, PACKAGE, [folder / "promtool"])
    return folder / "promtool"


def _fetch(folder: Path) -> None:
    """Out of Debian's package, whose signature apt checks. It is not installed: it would start a service."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        if _run(["apt-get", "download", "-q", PACKAGE], place).returncode:
            _run(["apt-get", "update", "-q"], place)  # a new machine has no lists yet
            done = _run(["apt-get", "download", "-q", PACKAGE], place)
            assert done.returncode == 0, f"there is no promtool; install prometheus. {done.stderr[-500:]}"
        (package,) = place.glob("*.deb")
        unpacked = _run(["dpkg", "-x", str(package), "unpacked"], place)
        assert unpacked.returncode == 0, unpacked.stderr
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "promtool.new"
        shutil.copy2(place / "unpacked" / "usr" / "bin" / "promtool", partial)
        partial.replace(folder / "promtool")


def _run(command: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError as error:
        raise AssertionError(f"there is no promtool and no {command[0]}: put promtool on PATH") from error
