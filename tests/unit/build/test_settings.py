"""What a build is told, and what is refused of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modelyard.contract import codes
from modelyard_build.settings import read_settings
from modelyard_models.failure import Failure

TOLD: dict[str, Any] = {
    "package": "packages/p", "storage": "pvc://store/below", "uri": "pvc://store/below/m", "methods": ["none"],
    "choose": "auto", "gate": {"minAgreement": 0.98},
}  # fmt: skip


def environment(root: Path, text: str | None = None, **changes: Any) -> dict[str, str]:
    path = root / "build.json"
    path.write_text(json.dumps(TOLD | changes) if text is None else text)
    return {
        codes.ENV_BUILD_CONFIG: str(path),
        codes.ENV_STORAGE: str(root),
        "MODELYARD_SOURCES": str(root / "s"),
    }


def test_the_config_and_its_surroundings_are_read(tmp_path: Path) -> None:
    settings = read_settings(environment(tmp_path))
    assert settings.config.choose == "auto" and settings.config.gate.min_agreement == 0.98
    assert settings.package == tmp_path / "packages/p" and settings.scratch.is_relative_to(settings.package)
    mine, other = (settings.locate(f"pvc://store/{path}") for path in ("below/m", "belowdeck/m"))
    assert settings.find_claimed(mine) == (tmp_path / "m", True)
    assert settings.find_claimed(other) == (tmp_path / "s/pvc/store/belowdeck/m", False)


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        ("{", {}, "isn't valid"),
        (None, {"methods": []}, "isn't valid"),
        (None, {"methods": ["int4"]}, "isn't valid"),
        (None, {"package": "../elsewhere"}, "not below the storage root"),
        (None, {"contractVersion": 99}, "use the server image of the operator's release"),
    ],
)
def test_a_config_that_can_not_be_meant_is_refused(
    tmp_path: Path, text: str | None, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Failure) as caught:
        read_settings(environment(tmp_path, text, **changes))
    assert caught.value.reason == "InvalidBuildConfig" and said in caught.value.message


def test_without_a_config_it_says_where_one_is_looked_for(tmp_path: Path) -> None:
    for given, said in (
        ({}, codes.ENV_BUILD_CONFIG),
        ({codes.ENV_BUILD_CONFIG: str(tmp_path / "x")}, "can't be read"),
    ):
        with pytest.raises(Failure) as caught:
            read_settings(given)
        assert said in caught.value.message
