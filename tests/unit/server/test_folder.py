"""Folders that are no model to serve: each gets its reason and a sentence that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from modelyard_server.failure import Failure
from modelyard_server.package.folder import _find_turn
from modelyard_server.serving.predictor import Predictor
from modelyard_server.serving.served import TooLong

from tests.unit.server.models import with_model, write_classifier, write_encoder

TASK = "text-classification"


async def nothing(model: Predictor) -> None:
    """Being ready is enough."""


@pytest.fixture
def folder(classifier: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(classifier, tmp_path / "model")


def refusal(folder: Path, task: str = TASK, **config: Any) -> str:
    with pytest.raises(Failure) as caught:
        with_model(folder, task, nothing, **config)
    assert caught.value.reason == "ModelInvalid"
    assert caught.value.exit_code == 2
    return caught.value.message


def test_no_folder(tmp_path: Path) -> None:
    assert "there is no folder absent" in refusal(tmp_path / "absent")


def test_pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    said = refusal(folder)
    assert (
        "'pytorch_model.bin', a format that can run code when it is read; only safetensors is served" in said
    )


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "neither model.safetensors nor" in refusal(folder)


def test_torn_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "is cut off or no safetensors file" in refusal(folder)


def test_a_git_lfs_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    assert "git-lfs pointers" in refusal(folder)


def test_an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    assert "is an adapter (LoRA) of org/base" in refusal(folder)


@pytest.mark.parametrize("content", [None, "{", '{"model_type": "no-such-family"}'])
def test_a_configuration_that_is_missing_broken_or_unknown(folder: Path, content: str | None) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    assert "config.json" in refusal(folder)


def test_code_of_the_model_is_never_run(folder: Path, tmp_path: Path) -> None:
    about = json.loads((folder / "config.json").read_text())
    about |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"},
    }
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    refusal(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_tokenizer_that_is_missing_or_broken(folder: Path, content: str | None) -> None:
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    assert "tokenizer" in refusal(folder)


def test_a_tokenizer_with_more_tokens_than_the_model(folder: Path) -> None:
    about = json.loads((folder / "tokenizer.json").read_text())
    about["added_tokens"].append(
        {"id": 320, "content": "<new>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
    )  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(about))
    assert "its tokenizer has 321 tokens, the model 320" in refusal(folder)


def test_a_head_that_the_folder_has_no_weights_for(tmp_path: Path) -> None:
    write_encoder(tmp_path / "model")
    assert "lacks weights, which would be made anew at random: 'classifier.bias'" in refusal(
        tmp_path / "model"
    )


@pytest.mark.parametrize("places", [(1, 2, 3), (0, 1, 5), (0, 2)])
def test_classes_whose_place_in_the_head_would_be_a_guess(folder: Path, places: tuple[int, ...]) -> None:
    about = json.loads((folder / "config.json").read_text())
    named = {str(place): f"class {place}" for place in places}
    labels = {label: int(place) for place, label in named.items()}
    (folder / "config.json").write_text(json.dumps(about | {"id2label": named, "label2id": labels}))
    said = refusal(folder)
    assert f"id2label in its config.json names the classes {', '.join(map(repr, named))}; " in said
    assert "numbered from 0 on" in said


def test_variants_and_runtimes_that_the_folder_or_the_runtime_has_not(folder: Path) -> None:
    assert "runtime torch has no variant int8" in refusal(folder, variant="int8")
    assert "has no model.onnx" in refusal(folder, runtime="onnx")


def test_the_bound_of_a_text_is_the_least_of_configs_tokenizers_and_models(folder: Path) -> None:
    limits = []

    async def look(model: Predictor) -> None:
        limits.append(model.limit)
        text = "dog " * 100
        with pytest.raises(TooLong, match=f"and this model takes {model.limit}"):
            await model.encode([text], truncate=False)
        [row] = await model.encode([text], truncate=True)
        assert len(row) == model.limit
        assert (row.ids[0], row.ids[-1]) == (1, 2)  # the special tokens stay

    with_model(folder, TASK, look)
    with_model(folder, TASK, look, max_length=20)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(about | {"model_max_length": 30}))
    with_model(folder, TASK, look)
    assert limits == [64, 20, 30]


def test_a_bound_that_the_special_tokens_fill_is_refused(folder: Path) -> None:
    assert "maxLength 2 has no room for a text: 2 tokens stand around each" in refusal(folder, max_length=2)
    with_model(folder, TASK, nothing, max_length=3)


# Kinds of rotary positions that are others for all of a batch where one text is longer than 32 tokens.
TURNING = [
    {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32,
     "short_factor": [1.0] * 4, "long_factor": [4.0] * 4},
    {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
]  # fmt: skip


@pytest.mark.parametrize("turning", TURNING)
@pytest.mark.parametrize("nested", [False, True])
def test_a_text_beside_others_is_no_longer_than_where_rotary_positions_change_for_all(
    turning: dict[str, Any], nested: bool
) -> None:
    def about(told: dict[str, Any]) -> Any:
        config = SimpleNamespace(rope_parameters=told, max_position_embeddings=32)
        return SimpleNamespace(get_text_config=lambda: config)

    plain = {"rope_type": "default", "rope_theta": 1e4}
    assert _find_turn(about({"sliding": plain, "full": turning} if nested else turning)) == 32
    assert _find_turn(about({"sliding": plain, "full": plain} if nested else plain)) is None


def test_a_classifier_takes_no_text_that_would_change_the_answers_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    turning = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    write_classifier(
        folder, model_type="phi3", pad_token_id=0, num_key_value_heads=2, rope_parameters=turning,
        original_max_position_embeddings=32,
    )  # fmt: skip

    async def test(model: Predictor) -> None:
        assert model.limit == 32

    with_model(folder, TASK, test)


def test_a_text_is_classified_as_before_when_long_ones_were_asked_whose_positions_scale_with_them(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    write_classifier(
        folder, model_type="llama", pad_token_id=0, num_key_value_heads=2, max_position_embeddings=32,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    )  # fmt: skip
    about = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(about | {"model_max_length": 64}))

    async def test(model: Predictor) -> None:
        whole, longer = "dog " * 28, "the lazy fox " * 100
        [row], others = (
            await model.encode([whole], truncate=True),
            await model.encode([longer], truncate=True),
        )
        before = await model.answer([row])
        await model.answer(others)
        assert np.array_equal(await model.answer([row]), before)

    with_model(folder, TASK, test)
