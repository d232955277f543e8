"""Generation settings of base models: transformers reads them as they are, and must be able to write them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modelyard_models.failure import Failure
from modelyard_trainer.preflight.generation import check_generation, settle_generation
from transformers import GenerationConfig


def write(folder: Path, settings: dict[str, Any]) -> Path:
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"temperature": 0.9, "top_p": 0.6}, {"do_sample": True}),  # vicuna-7b-v1.5
        ({"do_sample": False, "top_k": 20}, {"do_sample": True}),
        ({"do_sample": True, "temperature": 0.6}, {}),
        ({"use_cache": False, "cache_implementation": "hybrid"}, {"cache_implementation": None}),
        ({"length_penalty": 2.0, "early_stopping": True}, {"length_penalty": None, "early_stopping": None}),
        ({"temperature": 0.7, "length_penalty": 2.0}, {"do_sample": True, "length_penalty": None}),
        ({"pad_token_id": -1}, {"pad_token_id": None}),  # the first conversions of Llama
        ({"eos_token_id": [2, 7], "bos_token_id": 1}, {}),
    ],
)
def test_settings_that_are_read_can_be_written(
    tmp_path: Path, settings: dict[str, Any], changed: dict[str, Any]
) -> None:
    check_generation(write(tmp_path, settings))
    read = GenerationConfig.from_pretrained(tmp_path)
    settle_generation(read)
    read.save_pretrained(tmp_path)
    again = json.loads((tmp_path / "generation_config.json").read_text())
    kept = {name: value for name, value in (settings | changed).items() if value is not None}
    assert {name: again[name] for name in kept} == kept
    assert not again.keys() & {name for name, value in changed.items() if value is None}


def test_settings_that_are_wrong_in_themselves_are_refused_by_the_files_name(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"generation_config\.json.*num_return_sequences") as caught:
        check_generation(write(tmp_path, {"num_return_sequences": 3}))
    assert caught.value.reason == "ModelInvalid"
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(Failure, match=r"generation_config\.json"):
        check_generation(tmp_path)


def test_a_model_may_have_no_settings(tmp_path: Path) -> None:
    check_generation(tmp_path)
    settle_generation(None)
