"""Small files that must be whole or absent: temp + fsync + rename."""

import contextlib
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional


def say(text: str) -> None:
    """Tell whoever reads the pod's log. Never fails: a closed standard error must not stop a training."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("modelyard-agent: {}\n".format(text))
        sys.stderr.flush()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or all of the new one, also after a power cut.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".{}.{}.tmp".format(path.name, os.getpid()))
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable where the file system can do so."""
    with contextlib.suppress(OSError):  # object stores behind FUSE refuse it; nothing is lost by going on
        descriptor = os.open(str(path), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def encode(value: Dict[str, Any]) -> bytes:
    """JSON, compact, UTF-8. Raises ValueError on NaN, which JSON doesn't have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )


def encode_exactly(value: Dict[str, Any]) -> bytes:
    """As `encode`, but what is read back is the same also where it is no Unicode, as names of files may be."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def read_object(path: Path) -> Optional[Dict[str, Any]]:
    """A JSON object, or None where there is none or it can't be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def explain(error: OSError, what: str) -> str:
    """What went wrong with the store and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "the storage is full: enlarge the claim or delete old runs"
    elif error.errno == errno.EROFS:
        advice = "the storage is read-only: mount the claim read-write"
    elif error.errno in (errno.EACCES, errno.EPERM):
        advice = (
            "the pod's user may not write to the storage: set podTemplate's fsGroup to the volume's group"
        )
    else:
        advice = "check the storage's health"
    return "{}: {} ({})".format(what, error.strerror or error, advice)
