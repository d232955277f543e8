"""Fixtures of the trainer's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from modelyard_trainer.prepare import main as stage

from tests.unit.trainer.builders import make_model_folder, quick_preflight
from tests.unit.trainer.web import WebServer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model folder; not to be changed."""
    return make_model_folder(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A web server on loopback."""
    with WebServer() as server:
        yield server


@pytest.fixture(autouse=True)
def preflight_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """See quick_preflight; the tests of the preflight itself start the real process."""
    monkeypatch.setattr(stage, "starting_preflight", quick_preflight)
