"""One node's share in verifying a checkpoint, killed at a point.

`python -m tests.unit.agent.dying FOLDER SHARE POINT`
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard_agent import checkpoints, files, hashing, parts

POINTS_OF_NODE_1 = ("before hashing", "before its part", "half its part")
POINTS_OF_NODE_0 = ("before hashing", "before the parts", "before its manifest", "half its manifest")


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **named: (function(*given, **named), die())


def write_half(path: Path, data: bytes) -> None:
    """As on storage that knows no rename."""
    path.write_bytes(data[: len(data) // 2])
    die()


def break_at(point: str) -> None:
    broken: dict[str, tuple[Any, str, Any]] = {
        "before hashing": (hashing, "describe_files", die),
        "before its part": (hashing, "describe_files", die_after(hashing.describe_files)),
        "half its part": (parts, "write_atomically", write_half),
        "before the parts": (parts, "collect", die),
        "before its manifest": (parts, "collect", die_after(parts.collect)),
        "half its manifest": (checkpoints, "write_atomically", write_half),
        "after its manifest": (checkpoints, "write_atomically", die_after(files.write_atomically)),
    }
    if point in broken:
        setattr(*broken[point])


def main(folder: Path, share: parts.Share, point: str) -> None:
    parts.SILENT_SECONDS = 1.0
    break_at(point)
    if share.node == 0:
        checkpoints.write_manifest(folder, {"step": int(folder.name.rpartition("-")[2])}, share)
    else:
        checkpoints.write_part(folder, share)


if __name__ == "__main__":
    main(Path(sys.argv[1]), parts.read_share(json.loads(sys.argv[2])), sys.argv[3])
