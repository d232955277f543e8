"""Fixtures of the trainer's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.trainer.builders import make_model_folder
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
