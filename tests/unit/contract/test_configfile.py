"""A pod's config: what can't be used is told by its own name, and says what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelyard.contract.base import Versioned
from modelyard.contract.codes import CONTRACT_VERSION
from modelyard.contract.configfile import ConfigError, read_config


class Config(Versioned):
    """A config with one required field."""

    port: int


def read(path: Path | str | None, image: str | None = None) -> Config:
    return read_config(Config, {} if path is None else {"CONFIG": str(path)}, "CONFIG", "gateway", image)


def written(folder: Path, text: str) -> Path:
    (path := folder / "config.json").write_text(text)
    return path


def test_the_config_is_what_the_file_says(tmp_path: Path) -> None:
    assert read(written(tmp_path, f'{{"contractVersion": {CONTRACT_VERSION}, "port": 80}}')).port == 80


@pytest.mark.parametrize("path", [None, ""])
def test_a_variable_that_is_not_set_is_named(path: str | None) -> None:
    with pytest.raises(ConfigError, match=r"^CONFIG is not set; it names the gateway config, a JSON file$"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the gateway config .*/none can't be read: No such file"):
        read(tmp_path / "none")


@pytest.mark.parametrize(("text", "told"), [("{}", "port: Field required"), ("{", "it: Invalid JSON")])
def test_every_fault_of_the_file_is_told_at_its_field(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"isn't valid: .*{told}"):
        read(written(tmp_path, text))


@pytest.mark.parametrize(("image", "named"), [(None, "gateway"), ("server", "server")])
def test_a_newer_contract_names_the_image_to_use(tmp_path: Path, image: str | None, named: str) -> None:
    path = written(tmp_path, f'{{"contractVersion": {CONTRACT_VERSION + 1}, "port": 80}}')
    with pytest.raises(ConfigError, match=f"use the {named} image of the operator's release"):
        read(path, image)
