"""Variants as they are really made, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from modelyard.contract.layout import MODEL_MANIFEST
from modelyard.contract.report import FailureReport
from safetensors.torch import load_file

from tests.unit.server.models import TEXTS, answer, with_model, write_classifier, write_encoder
from tests.unit.server.models import write_json as write
from tests.unit.trainer.exported import CLASSES, make_model, make_tokenizer

CANINE = {
    "model_type": "canine", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64, "num_hash_buckets": 64, "local_transformer_stride": 8,
    "downsampling_rate": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 320,
}  # fmt: skip


def make(method: str, task: str, folder: Path, root: Path) -> FailureReport | None:
    """Makes a variant at root/target; None: it was made."""
    (root / "target").mkdir()
    plan = {"method": method, "task": task, "folder": str(folder), "target": str(root / "target")}
    (root / "plan.json").write_text(json.dumps(plan))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "modelyard_build.variants", str(root / "plan.json"), str(root / "done")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 0:
        assert (root / "done").exists()
        return None
    assert (root / "done.failure").exists(), done.stderr
    return FailureReport.model_validate_json((root / "done.failure").read_bytes())


def test_bf16_is_the_model_with_all_its_files_and_half_its_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_encoder(folder)
    for name in (MODEL_MANIFEST, "reference.json", "modules.json", "chat_template.jinja"):
        (folder / name).write_text("{}")
    write(folder / "1_Pooling" / "config.json", {})
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.json").write_text("{}")
    assert make("bf16", "embeddings", folder, tmp_path) is None
    there = {path.relative_to(tmp_path / "target").as_posix() for path in (tmp_path / "target").rglob("*")}
    assert there == {
        "1_Pooling", "1_Pooling/config.json", "chat_template.jinja", "config.json", "model.safetensors", MODEL_MANIFEST,
        "modules.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert json.loads((tmp_path / "target/config.json").read_text())["dtype"] == "bfloat16"
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "target"))
    # The layer that pools for the pre-training's own task is asked by nobody.
    assert set(before) - set(after) == {"pooler.dense.weight", "pooler.dense.bias"}
    for name, value in after.items():
        assert torch.equal(value, before[name].to(torch.bfloat16)), name


def vectors(folder: Path, task: str, **config: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    async def ask(model: Any) -> None:
        found.extend(torch.tensor(vector) for vector in await answer(model, *TEXTS))

    with_model(folder, task, ask, **config)
    return found


@pytest.mark.parametrize("task", ["text-classification", "embeddings"])
def test_int8_answers_nearly_as_the_model_does(tmp_path: Path, task: str) -> None:
    folder = tmp_path / "model"
    (write_classifier if task == "text-classification" else write_encoder)(folder)
    assert make("int8", task, folder, tmp_path) is None
    found = vectors(tmp_path / "target", task, runtime="onnx", variant="int8")
    for given, wanted in zip(found, vectors(folder, task), strict=True):
        assert (given - wanted).abs().max() < 0.1 * wanted.abs().max()
    assert not list((tmp_path / "target").glob("whole*")) and not list(
        (tmp_path / "target").glob("*.safetensors")
    )


def test_a_graph_whose_length_became_a_constant_is_refused(tmp_path: Path) -> None:
    # huggingface/transformers#47491: CANINE's graph holds the length of its example.
    folder = tmp_path / "model"
    make_tokenizer(folder, CANINE)
    make_model(CANINE, CLASSES, folder).save_pretrained(folder)
    failure = make("int8", "text-classification", folder, tmp_path)
    assert failure is not None and failure.reason == "CompressionFailed"
    assert "the exported graph" in failure.message or "can't export" in failure.message


def test_a_model_without_all_its_weights_is_no_variant(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_encoder(folder)
    failure = make("bf16", "text-classification", folder, tmp_path)
    assert failure is not None and failure.reason == "ModelInvalid" and "lacks weights" in failure.message
