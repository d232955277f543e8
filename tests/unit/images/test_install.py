"""The development environment is checked against its lock files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from requirements import install


def environment(folder: Path, **installed: str) -> Path:
    """An environment whose interpreter says that these versions are installed."""
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\necho '{json.dumps(installed)}'\n")
    python.chmod(0o755)
    return folder


def test_what_is_missing_or_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "dev.txt"
    pins = {"same-name": "1.2", "with-v": "0.3", "older": "2.0", "gone": "1.0"}
    lock.write_text(
        "".join(f"{name}=={version} --hash=sha256:{'0' * 64}\n" for name, version in pins.items())
    )
    monkeypatch.setattr(install, "LOCKS", (lock,))
    folder = environment(tmp_path, Same_Name="1.2", older="1.9", **{"with-v": "v0.3"})
    assert install.find_faults(folder) == [
        "gone is missing, the lock says 1.0",
        "older is 1.9, the lock says 2.0",
    ]
