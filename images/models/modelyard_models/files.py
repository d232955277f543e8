"""Writing that never leaves a half: temp + rename; and hashing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20  # bytes
DIGEST_PREFIX = "sha256-"


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """Digest of a JSON value, independent of the order of its keys: `sha256-<hex>`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return DIGEST_PREFIX + hashlib.sha256(text.encode()).hexdigest()


def walk_files(folder: Path) -> list[Path]:
    """All regular files below `folder`, sorted by their relative path."""
    return sorted(
        (p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.relative_to(folder).as_posix()
    )


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file so that a reader sees the old or the new one, never a part, even after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temp.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    finally:
        temp.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in a file, or None if there is no such file or it holds no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def sync_tree(folder: Path) -> None:
    """Flushes all files below `folder` to the disk, so that a later rename can't publish empty files."""
    for path in walk_files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def new_folder(target: Path, owner: str) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` if the block ends well.

    Otherwise it is deleted. `owner` names who writes (a job's uid), so that its next try can delete
    what a killed one left. If another writer published `target` meanwhile, theirs is replaced by the
    same content.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, owner)
    temp = target.parent / f".tmp-{owner}-{uuid.uuid4().hex[:8]}"
    temp.mkdir()
    try:
        yield temp
        sync_tree(temp)
        publish_folder(temp, target)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def publish_folder(temp: Path, target: Path) -> None:
    """Renames `temp` to `target`; an existing `target` is moved aside first and deleted."""
    try:
        temp.rename(target)
    except OSError:
        if not target.exists():
            raise
        aside = target.parent / f"{temp.name}-old"
        target.rename(aside)
        temp.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(parent: Path, owner: str) -> None:
    """Deletes temporary folders of `owner` that a killed process left below `parent`."""
    for path in parent.glob(f".tmp-{owner}-*"):
        shutil.rmtree(path, ignore_errors=True)
