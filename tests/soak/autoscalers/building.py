"""Programs of Go modules that are no part of the cluster, built as the cluster's own are."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

from tests.cluster import binaries, cache, prerequisites
from tests.cluster.shell import BUILD, run_online, say

_FLAGS = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
_ALONE = {"CGO_ENABLED": "0", "GOWORK": "off", **binaries.COMPILER}


def provide(module: str, version: str, programs: dict[str, str]) -> dict[str, Path]:
    """Paths of the programs by their names; `programs`: packages within the module, by name.

    The module is the main one of its build, so that its own replacements and go.sum hold. Raises ClusterError.
    """
    folder = cache.root() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / name for name in programs}
    stamp = folder / f"{'-'.join(programs)}.stamp"
    key = cache.key_of([], [module, version, *_FLAGS, *programs.values()])
    with cache.locked(stamp.with_suffix(".lock"), f"building {', '.join(programs)}"):
        if not cache.is_current(stamp, key):
            say(f"building {', '.join(programs)} {version} (several minutes the first time)")
            _build(module, version, programs, folder)
            cache.write_stamp(stamp, key, found.values())
    return found


def source(module: str, version: str) -> Path:
    """The module's files, checked against Go's checksums where those are asked. Raises ClusterError."""
    go = prerequisites.ensure_go()
    said = run_online([go, "mod", "download", "-json", f"{module}@{version}"], env=_ALONE, seconds=BUILD)
    return Path(json.loads(said)["Dir"])


def _build(module: str, version: str, programs: dict[str, str], folder: Path) -> None:
    go, started = prerequisites.ensure_go(), time.monotonic()
    with tempfile.TemporaryDirectory(dir=cache.root()) as scratch:
        copy = Path(scratch) / "module"
        shutil.copytree(source(module, version), copy, copy_function=shutil.copyfile)
        for path in (copy, *copy.rglob("*")):
            path.chmod(
                path.stat().st_mode | 0o600
            )  # Go keeps its copies read-only, and they are to be removed
        for name, package in programs.items():
            partial = folder / f"{name}.new"
            command: list[str | Path] = [go, "build", *_FLAGS, "-o", partial, package]
            run_online(command, cwd=copy, env=_ALONE, seconds=BUILD)
            partial.replace(folder / name)
    say(f"built {', '.join(programs)} in {time.monotonic() - started:.0f} s")
