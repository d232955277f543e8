"""Functions that the tests of computing have called in another process."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any


def add(payload: dict[str, Any]) -> dict[str, Any]:
    """The sum, and where it was computed. Prints, which must not be taken for an answer."""
    print('{"answer": "no"}')
    return {"sum": sum(payload["numbers"]), "pid": os.getpid()}


def fail(payload: dict[str, Any]) -> None:
    """Raises."""
    raise ValueError("x" * 5000)


def nothing_json(payload: dict[str, Any]) -> object:
    """Answers what is no JSON."""
    return {1, 2}


def never(payload: dict[str, Any]) -> None:
    """Does not end."""
    time.sleep(600)


def die(payload: dict[str, Any]) -> None:
    """Takes its process with it, as one that needs too much memory does."""
    path = Path(payload["count"])
    path.write_text(path.read_text() + "x" if path.exists() else "x")
    sys.stdout.flush()
    os._exit(9)


def die_once(payload: dict[str, Any]) -> str:
    """Takes its first process with it."""
    if not Path(payload["count"]).exists():
        die(payload)
    return "alive"
