"""Peers are exactly the versions that are written down, and each of their programs is there."""

from __future__ import annotations

import re

from tests.bench.serving.peers import environments, servers


def test_every_package_of_a_peer_is_pinned() -> None:
    files = sorted(environments.REQUIREMENTS.glob("*.txt"))
    assert {file.stem for file in files} == {"fastapi", "bentoml", "infinity", "vllm"}
    for file in files:
        lines = file.read_text().split()
        assert lines
        assert [line for line in lines if not re.fullmatch(r"[\w.\-]+==[\w.!+]+", line)] == []


def test_the_programs_of_peers_are_those_that_are_started() -> None:
    source = (servers.PROGRAMS.parent / "servers.py").read_text()
    for program in servers.PROGRAMS.glob("*.py"):
        assert f'"{program.name}"' in source or f'"{program.stem}:' in source, program.name
