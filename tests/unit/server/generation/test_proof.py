"""A causal model is ready when it gives the reference's answers, and its first tokens come the way requests' do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from modelyard.contract.model import Reference
from modelyard_server.failure import Failure
from modelyard_server.serving.generator import Generator

from tests.unit.server.generation.test_engine import with_engine
from tests.unit.server.test_proof import edit_reference, edit_weights
from tests.unit.trainer.exported import LANGUAGE, write_model


async def nothing(model: Generator) -> None:
    """Being ready is enough."""


def refused(folder: Path, **config: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        with_engine(folder, nothing, **config)
    return caught.value


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """As the trainer leaves it, with its reference."""
    _, folder = write_model(tmp_path, LANGUAGE)
    return folder


@pytest.mark.parametrize("variant", ["none", "fp32", "bf16"])
def test_the_trainers_model_gives_its_reference_answers(exported: Path, variant: str) -> None:
    with_engine(exported, nothing, variant=variant)


def test_other_weights_are_found_out(exported: Path) -> None:
    def stir(weights: dict[str, Any]) -> None:
        for tensor in weights.values():
            tensor += 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))

    edit_weights(exported, stir)
    failure = refused(exported)
    assert failure.reason == "ModelUnproven"
    assert "differ from reference.json by" in failure.message


def test_another_tokenizer_and_a_reference_of_a_larger_model_are_found_out(exported: Path) -> None:
    edit_reference(exported, lambda about: about["rows"][0].update(candidates=[5000]))
    assert "of a model with more tokens" in refused(exported).message
    edit_reference(exported, lambda about: about["rows"][0].update(text="dog fox"))
    assert "its tokenizer makes other tokens" in refused(exported).message


def test_a_first_token_that_the_reference_does_not_know_is_found_out(exported: Path) -> None:
    reference = Reference.model_validate(json.loads((exported / "reference.json").read_text()))

    async def test(model: Generator) -> None:
        row = reference.rows[0]
        model._check_first(reference, row.candidates[0])
        row.log_probs[1:] = [value - 5 for value in row.log_probs[1:]]
        with pytest.raises(Failure, match="batched, it continues a text"):
            model._check_first(reference, row.candidates[1])

    with_engine(exported, test)


def test_a_model_that_computes_no_numbers_is_never_ready(exported: Path) -> None:
    (exported / "reference.json").unlink()
    edit_weights(exported, lambda weights: weights["lm_head.weight"].fill_(3e38))
    failure = refused(exported)
    assert failure.reason == "ModelUnproven"
    assert "no numbers" in failure.message


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"variant": "int8"}, "is served by runtime torch as none, fp32 or bf16, not by torch as int8"),
        ({"runtime": "onnx"}, "not by onnx as none"),
        ({"max_length": 1}, "has no room for a text"),
    ],
)
def test_what_is_not_served_is_refused_with_what_is(
    exported: Path, config: dict[str, Any], said: str
) -> None:
    failure = refused(exported, **config)
    assert failure.reason == "ModelInvalid"
    assert said in failure.message


def test_a_model_that_has_no_cache_of_this_kind_is_refused(tmp_path: Path) -> None:
    from tests.unit.server.models import write_generator

    folder = tmp_path / "model"
    write_generator(folder, {
        "model_type": "mamba", "vocab_size": 320, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2,
    })  # fmt: skip
    failure = refused(folder)
    assert failure.reason == "ModelInvalid"
    assert "serve it with engine vllm" in failure.message
