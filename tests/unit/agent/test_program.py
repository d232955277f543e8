"""A program of the user's that can't be run is named before anything is started."""

import os
import sys
from pathlib import Path

import pytest
from modelyard_agent.program import find_fault

from tests.unit.agent.conftest import MakePod


def write(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def foreign_elf() -> bytes:
    """This interpreter's header with another machine in it."""
    head = bytearray(Path(sys.executable).resolve().read_bytes()[:64])
    head[18] ^= 0xFF
    return bytes(head)


def test_what_can_be_run_has_no_fault(tmp_path: Path) -> None:
    script = write(tmp_path / "train.sh", b"#!/bin/sh\nexit 0\n")
    for command in (["sh", "-c", "x"], [sys.executable], [script]):
        assert find_fault(command, os.environ) is None


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"import torch\n", 0o755, "neither a program nor a script"),
        (b"#!/bin/sh\n", 0o644, "may not be executed"),
        (b"#!/opt/none/python3 -u\n", 0o755, "interpreter '/opt/none/python3'"),
        (b"#!/bin/sh\r\nexit 0\r\n", 0o755, "as on Windows"),
        (foreign_elf(), 0o755, "another processor architecture"),
    ],
)
def test_what_can_not_be_run_is_told_apart(content: bytes, mode: int, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "train", content, mode)
    fault = find_fault([path], os.environ)
    assert fault is not None
    assert words in fault
    assert path in fault


def test_what_does_not_exist_is_told_apart(tmp_path: Path) -> None:
    assert "no program 'nope' in the image's PATH" in str(find_fault(["nope"], {"PATH": str(tmp_path)}))
    assert "does not exist" in str(find_fault([str(tmp_path / "nope")], os.environ))
    assert "is a folder" in str(find_fault([str(tmp_path)], os.environ))


def test_nothing_is_started_and_no_restart_is_asked_for(make_pod: MakePod) -> None:
    pod = make_pod()
    assert pod.start("put('started.json', 1)", user_command=("nope", "--fast")).wait() == 2
    result = pod.result()
    assert result.failure is not None
    assert result.failure.reason == "CommandNotFound"
    assert not (pod.runtime / "started.json").exists()
