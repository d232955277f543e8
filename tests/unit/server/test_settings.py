"""What a server reads of its config and surroundings, and where it leaves its failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from modelyard.contract.codes import TERMINATION_LIMIT
from modelyard.contract.report import FailureReport
from modelyard_server.failure import Failure, leave_reason
from modelyard_server.settings import read_settings

CONFIG = {"name": "toy", "task": "embeddings", "folder": "models/toy"}


def environment(root: Path, config: object = CONFIG, **more: str) -> dict[str, str]:
    (root / "server.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return {"MODELYARD_SERVER_CONFIG": str(root / "server.json"), "MODELYARD_STORAGE": str(root), **more}


def test_defaults_and_what_the_environment_says(tmp_path: Path) -> None:
    settings = read_settings(environment(tmp_path, OMP_NUM_THREADS="3", MODELYARD_SERVER_PORT="9000"))
    assert (settings.folder, settings.threads, settings.port) == (tmp_path / "models" / "toy", 3, 9000)
    config = settings.config
    assert (config.variant, config.runtime, config.max_length, config.max_batch_tokens) == (
        "none",
        "torch",
        None,
        None,
    )
    assert read_settings(environment(tmp_path)).port == 8080
    assert read_settings(environment(tmp_path)).threads >= 1
    assert settings.reference is None
    named = read_settings(environment(tmp_path, CONFIG | {"reference": "packages/p/none.json"}))
    assert named.reference == tmp_path / "packages/p/none.json"


def test_what_a_newer_operator_says_besides_is_ignored(tmp_path: Path) -> None:
    assert read_settings(environment(tmp_path, CONFIG | {"newField": 1})).config.name == "toy"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "isn't valid"),
        ({}, "name: Field required; task: Field required; folder: Field required"),
        (CONFIG | {"variant": "int4"}, "variant: Input should be 'fp32', 'bf16', 'int8' or 'none'"),
        (CONFIG | {"maxQueue": 0}, "maxQueue: Input should be greater than or equal to 1"),
        (CONFIG | {"contractVersion": 99}, "the operator speaks contract 99"),
        (CONFIG | {"folder": "../elsewhere"}, "is not below the storage root"),
        (CONFIG | {"folder": "/etc"}, "is not below the storage root"),
        (
            CONFIG | {"reference": "../reference.json"},
            "reference '../reference.json' is not below the storage root",
        ),
    ],
)
def test_a_config_that_can_not_be_meant_is_refused(tmp_path: Path, config: object, said: str) -> None:
    with pytest.raises(Failure) as caught:
        read_settings(environment(tmp_path, config))
    assert caught.value.reason == "InvalidServerConfig"
    assert said in caught.value.message


def test_variables_that_are_missing_or_no_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="MODELYARD_SERVER_CONFIG is not set"):
        read_settings({})
    with pytest.raises(Failure, match=r"can't be read: No such file"):
        read_settings({"MODELYARD_SERVER_CONFIG": str(tmp_path / "absent")})
    with pytest.raises(Failure, match="OMP_NUM_THREADS is 'many', not a whole number above 0"):
        read_settings(environment(tmp_path, OMP_NUM_THREADS="many"))


def test_a_failure_is_left_wherever_that_can_be_written_and_fits(tmp_path: Path) -> None:
    places = [tmp_path / "termination", tmp_path / "absent" / "result.json", tmp_path / "result.json"]
    leave_reason(Failure("ModelInvalid", "\x01" * 1000), *places)
    for place in (places[0], places[2]):
        assert len(place.read_bytes()) <= TERMINATION_LIMIT
        report = FailureReport.model_validate_json(place.read_bytes())
        assert (report.reason, report.exit_code) == ("ModelInvalid", 2)
        assert report.message.startswith("\x01" * 100)
