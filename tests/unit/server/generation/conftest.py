"""Causal models that the tests share; not to be changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.server.models import GPT2, write_generator


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 128 tokens at most, with a chat template."""
    folder = tmp_path_factory.mktemp("llama") / "model"
    write_generator(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with learned positions."""
    folder = tmp_path_factory.mktemp("gpt2") / "model"
    write_generator(folder, GPT2)
    return folder
