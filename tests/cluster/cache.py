"""Where this tool keeps what it makes, and how it tells whether a cached file is still what it was."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from .shell import BUILD, ClusterError, say


def root() -> Path:
    """Return the cache folder: $MODELYARD_CACHE or ~/.cache/modelyard."""
    return Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard").absolute()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, read once in a process as long as the file stays untouched."""
    status = path.stat()
    return _hash(path, status.st_mtime_ns, status.st_size, status.st_ino)


@functools.cache
def _hash(path: Path, modified: int, size: int, inode: int) -> str:
    checksum = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(1 << 20):
            checksum.update(chunk)
    return checksum.hexdigest()


def key_of(files: Iterable[Path], settings: Iterable[str]) -> str:
    """Return a key for everything a build depends on: the files' names and content, and its settings."""
    checksum = hashlib.sha256()
    for path in sorted(files):
        checksum.update(f"{path.name}\0{file_hash(path)}\0".encode())
    for setting in settings:
        checksum.update(setting.encode() + b"\0")
    return checksum.hexdigest()


def is_current(stamp: Path, key: str) -> bool:
    """Tell whether a stamp was written for `key` and every output it lists still has the content it had.

    A cache is never believed: files are read again, since a full disk or a killed build truncates them.
    """
    try:
        recorded = json.loads(stamp.read_text())
        outputs: dict[str, str] = recorded["outputs"]
        return (
            bool(outputs)
            and recorded["key"] == key
            and all(file_hash(stamp.parent / name) == digest for name, digest in outputs.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_stamp(stamp: Path, key: str, outputs: Iterable[Path]) -> None:
    """Record, as a build's last step, what was built for `key`; outputs lie beside the stamp or below."""
    listed = {str(path.relative_to(stamp.parent)): file_hash(path) for path in outputs}
    partial = stamp.with_name(stamp.name + ".new")
    partial.write_text(json.dumps({"key": key, "outputs": listed}, indent=1, sort_keys=True))
    partial.replace(stamp)


@contextlib.contextmanager
def locked(path: Path, what: str, seconds: float = 2 * BUILD) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel releases it however the process ends.

    Raises ClusterError when another process holds it for longer than `seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process: {what}")
            _wait_for_lock(handle, what, seconds)
        yield


def _wait_for_lock(handle: IO[str], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"another process has been {what} for {seconds:.0f} s; end it (it has {handle.name} open)"
                ) from None
        time.sleep(0.1)
