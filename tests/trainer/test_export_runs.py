"""Real runs whose models are proved, refused, and used as their cards say."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from modelyard.contract.model import Proof, Reference
from modelyard_trainer.context import Context
from modelyard_trainer.prepare.tokenizer import train_tokenizer
from modelyard_trainer.tasks import find_task

from tests.trainer.launching import fail, launch, prepare_run, succeed
from tests.unit.trainer.builders import WORDS

BROKEN = "tests.trainer.broken_export"
LONG = " ".join(WORDS[i % len(WORDS)] for i in range(10_000))
_SMALL = {"vocab_size": 320, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
ROBERTA = _SMALL | {
    "model_type": "roberta", "max_position_embeddings": 40, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip
GPT2 = _SMALL | {"model_type": "gpt2", "n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 2}


def write_base(root: Path, config: dict[str, Any], kind: str, task: str) -> None:
    """A base model with weights and a tokenizer that has no length, where `pvc://models/base` is."""
    import transformers

    folder = root / "sources" / "pvc" / "models" / "base"
    train_tokenizer([" ".join(WORDS)] * 20, config, folder, frames=find_task(task).frames)
    model = getattr(transformers, kind).from_config(transformers.AutoConfig.from_pretrained(folder))
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """From a base model, in bfloat16."""
    root = tmp_path_factory.mktemp("classifier")
    write_base(root, ROBERTA, "AutoModelForSequenceClassification", "text-classification")
    bf16 = {"zero_optimization": {"stage": 1}, "bf16": {"enabled": True}}
    ctx = prepare_run(root, model={"uri": "pvc://models/base"}, deepspeed=bf16)
    succeed(launch(ctx, proves=True, processes=1))
    return ctx


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A language model with a table of positions, under ZeRO-3 on two processes."""
    root = tmp_path_factory.mktemp("writer")
    write_base(root, GPT2, "AutoModelForCausalLM", "text-generation")
    ctx = prepare_run(
        root, task="text-generation", model={"uri": "pvc://models/base"},
        deepspeed={"zero_optimization": {"stage": 3}},
    )  # fmt: skip
    succeed(launch(ctx, proves=True))
    return ctx


def folder_of(ctx: Context) -> Path:
    return ctx.run_dir / "model"


def proof_of(ctx: Context) -> Proof:
    return Proof.model_validate(json.loads((folder_of(ctx) / "modelyard.json").read_text())["proof"])


def read_text(path: Path) -> str:
    """What a file says: of weights their header."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        content = content[8 : 8 + int.from_bytes(content[:8], "little")]
    return content.decode()


def run_card(ctx: Context, text: str) -> Any:
    """What the lines of the model card give, for a text of ours."""
    code = re.search(r"```python\n(.*?)```", (folder_of(ctx) / "README.md").read_text(), re.DOTALL)
    assert code is not None
    lines = (
        code[1].replace('"path/to/this/folder"', repr(str(folder_of(ctx)))).replace('"a text"', repr(text))
    )
    *first, call = lines.strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(first), names)  # noqa: S102 - the lines are ours
    return eval(call, names)  # noqa: S307


@pytest.mark.parametrize(("name", "dtype"), [("classifier", "bfloat16"), ("writer", "float32")])
def test_a_published_model_was_loaded_back_and_has_its_reference(
    name: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    ctx: Context = request.getfixturevalue(name)
    proof = proof_of(ctx)
    assert (proof.method, proof.rows) == ("reload", 8) and proof.tensors > 20
    assert proof.max_difference is not None and proof.tolerance is not None
    assert proof.max_difference <= proof.tolerance / 5
    reference = Reference.model_validate_json((folder_of(ctx) / "reference.json").read_bytes())
    assert (reference.split, reference.dtype, len(reference.rows)) == ("validation", dtype, 8)
    assert not list(ctx.run_dir.glob(".tmp-model*"))


def test_the_reference_is_what_plain_transformers_answers_in_float32_too(classifier: Context) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = folder_of(classifier)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reference = Reference.model_validate_json((folder / "reference.json").read_bytes())
    for row in reference.rows:
        with torch.no_grad():
            found = model(**tokenizer(row.text, return_tensors="pt")).logits[0].log_softmax(-1)
        assert found[row.candidates].tolist() == pytest.approx(row.log_probs, abs=reference.tolerance)


@pytest.mark.parametrize("name", ["classifier", "writer"])
def test_nothing_of_this_cluster_stays_in_the_folder(name: str, request: pytest.FixtureRequest) -> None:
    ctx: Context = request.getfixturevalue(name)
    words = [str(ctx.storage.parent), "local_files_only", "is_local", "training_args"]
    words += ["/modelyard/", "name_or_path", "hub/sha256", "1000000000000000019884624838656"]
    host = re.compile(rf"\b{re.escape(socket.gethostname())}\b")
    for path in folder_of(ctx).rglob("*"):
        content = read_text(path)
        assert [word for word in words if word in content] == [] and not host.search(content), path.name


def test_the_cards_lines_class_a_text_of_ten_thousand_words(classifier: Context) -> None:
    (answer,) = run_card(classifier, LONG)
    assert answer["label"] in ("negative", "positive")


def test_the_cards_lines_go_on_from_a_text_of_ten_thousand_words(writer: Context) -> None:
    (answer,) = run_card(writer, LONG)
    assert answer["generated_text"].startswith(LONG)
    assert json.loads((folder_of(writer) / "tokenizer_config.json").read_text())["model_max_length"] == 48


@pytest.mark.parametrize("how", ["permuted", "configuration"])
def test_an_export_that_went_wrong_is_not_published(tmp_path: Path, how: str) -> None:
    ctx = prepare_run(tmp_path)
    failure = fail(launch(ctx, proves=True, module=BROKEN, BROKEN=how))
    assert (failure.reason, failure.exit_code) == ("ModelUnproven", 2)
    assert ("other values" if how == "permuted" else "its answers are others") in failure.message
    assert not folder_of(ctx).exists() and not list(ctx.run_dir.glob(".tmp-model*"))
    assert not (ctx.run_dir / "result.json").exists()
    assert (ctx.run_dir / "a0" / "checkpoint-6" / "manifest.json").exists(), "the training is not lost"


def test_a_model_too_large_to_load_twice_is_proved_by_its_tensors(tmp_path: Path) -> None:
    ctx = prepare_run(tmp_path, deepspeed={"zero_optimization": {"stage": 3}})
    succeed(launch(ctx, proves=True, module=BROKEN, BROKEN="large"))
    proof = proof_of(ctx)
    assert (proof.method, proof.rows, proof.max_difference) == ("sampled", 0, None)
    assert proof.tensors > 20 and "more than" in str(proof.note)
    assert (folder_of(ctx) / "reference.json").exists()


def test_a_configuration_that_would_leave_the_weights_out_is_refused(tmp_path: Path) -> None:
    zero = {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}
    ctx = prepare_run(tmp_path, deepspeed={"zero_optimization": zero})
    failure = fail(launch(ctx, processes=1))
    assert failure.reason == "InvalidArgument"
    assert "deepspeed.config.zero_optimization.stage3_gather_16bit_weights_on_model_save" in failure.message
