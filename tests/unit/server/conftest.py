"""Models that the tests share; not to be changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.server.models import write_classifier, write_encoder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes."""
    folder = tmp_path_factory.mktemp("classifier") / "model"
    write_classifier(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without any word about pooling."""
    folder = tmp_path_factory.mktemp("encoder") / "model"
    write_encoder(folder)
    return folder
