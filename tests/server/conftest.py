"""A model that all tests here serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.server.models import write_classifier


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three classes; not to be changed."""
    folder = tmp_path_factory.mktemp("classifier") / "model"
    write_classifier(folder)
    return folder
