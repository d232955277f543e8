"""What a server computes with is its own: whoever writes the model's files later changes no answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelyard_server.package.folder import open_package
from modelyard_server.runtimes.pytorch import load_model
from modelyard_server.runtimes.runtime import Output

from tests.unit.server.models import make_settings, write_classifier, write_generator


def load(folder: Path, task: str, output: Output) -> Any:
    package = open_package(folder, make_settings(folder, task).config, None)
    return load_model(package, output, threads=1)


@pytest.mark.parametrize("tied", [False, True])
def test_files_that_are_overwritten_change_nothing_of_a_model_that_is_loaded(
    tmp_path: Path, tied: bool
) -> None:
    folder = tmp_path / "model"
    if tied:
        write_generator(folder, tie_word_embeddings=True)
        model = load(folder, "text-generation", Output("AutoModelForCausalLM", "logits", rank=3, pages=True))
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    else:
        write_classifier(folder)
        model = load(
            folder, "text-classification", Output("AutoModelForSequenceClassification", "logits", rank=2)
        )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:  # as who copies over it, or saves anew to the same file
        file.write(bytes(weights.stat().st_size))
    for name, tensor in model.state_dict().items():
        assert np.array_equal(tensor.numpy(), before[name].numpy()), name
