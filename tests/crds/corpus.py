"""The manifests beside this file: `valid/` is accepted, `invalid/` refused with the message expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.api.yaml import load

HERE = Path(__file__).parent
VALID = sorted((HERE / "valid").glob("*.yaml"))
INVALID = sorted((HERE / "invalid").glob("*.yaml"))
_EXPECT = "# expect: "


def manifest(path: Path) -> dict[str, Any]:
    """The object in `path`."""
    loaded: dict[str, Any] = load(path.read_text(encoding="utf-8"))
    return loaded


def expectation(path: Path) -> str:
    """What the first line of an invalid manifest wants the refusal to say. Raises ValueError without it."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    if not first.startswith(_EXPECT):
        raise ValueError(f"{path.name}: the first line must be {_EXPECT}<part of the message>")
    return first.removeprefix(_EXPECT).strip()
