"""Programs of Go modules that are no part of the cluster, built as the cluster's own are."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from tests.cluster import binaries, cache, prerequisites
from tests.cluster.shell import BUILD, run_online, say

_FLAGS = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]


def provide(module: str, version: str, programs: dict[str, str]) -> dict[str, Path]:
    """Paths of the programs by their names; `programs`: packages within the module, by name.

    The module is the main one of its build, so that its own replacements and go.sum hold. Raises ClusterError.
    """
    folder = binaries.folder()
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: folder / name for name in programs}
    stamp = folder / f"{'-'.join(programs)}.stamp"
    key = cache.key_of([], [module, version, *_FLAGS, *programs.values()])
    with cache.locked(stamp.with_suffix(".lock"), f"building {', '.join(programs)}"):
        if not cache.is_current(stamp, key):
            say(f"building {', '.join(programs)} {version} (several minutes the first time)")
            _build(module, version, programs)
            cache.write_stamp(stamp, key, found.values())
    return found


def source(module: str, version: str) -> Path:
    """The module's files, checked against Go's checksums where those are asked. Raises ClusterError."""
    go = prerequisites.ensure_go()
    said = run_online(
        [go, "mod", "download", "-json", f"{module}@{version}"], env={"GOWORK": "off"}, seconds=BUILD
    )
    return Path(json.loads(said)["Dir"])


def _build(module: str, version: str, programs: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=cache.root()) as scratch:
        copy = Path(scratch) / "module"
        shutil.copytree(source(module, version), copy, copy_function=shutil.copyfile)
        for path in (copy, *copy.rglob("*")):  # Go keeps its copies read-only, and these are to be removed
            path.chmod(path.stat().st_mode | 0o600)
        binaries.go_build(copy, _FLAGS, programs)
