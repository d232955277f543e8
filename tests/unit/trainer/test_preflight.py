"""What is found in a base model's headers and in settings, before any weight is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelyard.contract.run import ModelInput
from modelyard_models.failure import Failure
from modelyard_models.fetch import select_files
from modelyard_trainer.preflight.base import Base, check_length, examine_base
from modelyard_trainer.preflight.main import starting_preflight
from modelyard_trainer.preflight.vocabulary import check_vocabulary
from modelyard_trainer.preflight.warnings import warn_of_model
from modelyard_trainer.tasks import TASKS
from safetensors.numpy import load_file, save_file

from tests.unit.trainer.builders import SIZES, make_model_folder, make_run, save_weights

CLASSIFY, GENERATE = TASKS["text-classification"], TASKS["text-generation"]


@pytest.fixture
def base(tmp_path: Path, model_folder: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "base"))


def examine(folder: Path, task: str = "text-classification") -> Base:
    return examine_base(ModelInput(uri="pvc://models/base"), folder, TASKS[task])


def refusal(folder: Path, task: str = "text-classification") -> str:
    with pytest.raises(Failure) as caught:
        examine(folder, task)
    assert caught.value.reason == "ModelInvalid" and not caught.value.temporary
    return caught.value.message


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rename_keys(folder: Path, prefix: str) -> None:
    path = folder / "model.safetensors"
    save_file({prefix + name: value for name, value in load_file(path).items()}, path, {"format": "pt"})


def cut_into_shards(folder: Path) -> list[Path]:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 2
    return shards


def test_a_whole_base_model_lacks_its_head_only(base: Path) -> None:
    found = examine(base)
    assert found.findings.new == ("classifier.bias", "classifier.weight") and found.labels is None
    assert (found.vocabulary, found.positions, found.made_causal) == (320, 64, False)


def test_a_classifier_has_its_classes_in_its_own_order(base: Path) -> None:
    save_weights(base, "AutoModelForSequenceClassification", id2label={0: "spam", 1: "ham", 2: "other"})
    assert examine(base).labels == ("spam", "ham", "other")


def test_a_body_of_another_size_is_refused_with_both_sizes(base: Path) -> None:
    change_config(base, max_position_embeddings=128)
    message = refusal(base)
    assert "position_embeddings.weight is [64, 32]" in message and "wants [128, 32]" in message


@pytest.mark.parametrize(
    ("prefix", "wrapper"), [("_orig_mod.", "torch.compile"), ("module.", "DistributedDataParallel")]
)
def test_keys_that_a_wrapper_left_are_refused_by_its_name(base: Path, prefix: str, wrapper: str) -> None:
    rename_keys(base, prefix)
    message = refusal(base)
    assert prefix in message and wrapper in message


def test_keys_of_another_model_are_refused_with_the_first_names_of_both_sides(base: Path) -> None:
    change_config(base, model_type="distilbert")
    message = refusal(base)
    assert "distilbert.transformer.layer.0" in message and "encoder.layer.0" in message


def test_layers_that_the_configuration_cut_off_are_refused(base: Path) -> None:
    change_config(base, num_hidden_layers=1)
    assert "no place for" in (message := refusal(base)) and "encoder.layer.1" in message


def test_layers_that_the_files_lack_are_refused(base: Path) -> None:
    change_config(base, num_hidden_layers=3)
    assert "lacks 16 weights" in (message := refusal(base)) and "encoder.layer.2" in message


def test_a_missing_shard_is_named(base: Path) -> None:
    shards = cut_into_shards(base)
    assert examine(base).vocabulary == 320
    shards[1].unlink()
    assert f"lacks 1 of its {len(shards)} shards: '{shards[1].name}'" in refusal(base)


def test_shards_of_another_model_are_refused(base: Path) -> None:
    shards = cut_into_shards(base)
    shutil.copyfile(shards[0], shards[1])
    assert "that no shard holds" in refusal(base)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_file_that_is_cut_off_is_refused_by_its_name(base: Path, keep: int) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors" in (message := refusal(base)) and "cut off" in message


def test_git_lfs_pointers_are_refused_with_what_to_do(base: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"
    (base / "model.safetensors").write_text(pointer)
    (base / "pytorch_model.bin").write_text(pointer)  # is not read, so it doesn't matter
    with pytest.raises(Failure, match=r"git lfs pull") as caught:
        select_files(base, "pvc://models/base")
    assert caught.value.reason == "ModelInvalid" and "pytorch_model.bin" not in caught.value.message


def test_an_adapter_is_refused_with_the_model_it_belongs_to(base: Path) -> None:
    (base / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/big", "r": 8}))
    (base / "config.json").unlink()
    with pytest.raises(Failure, match=r"adapter \(LoRA\) of org/big.*merge_and_unload") as caught:
        select_files(base, "pvc://models/base")
    assert caught.value.reason == "ModelInvalid"


def test_quantized_weights_are_refused(base: Path) -> None:
    change_config(base, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "is quantized (its config.json says gptq)" in refusal(base)


def test_packed_integers_in_place_of_weights_are_refused(base: Path) -> None:
    path = base / "model.safetensors"
    weights = load_file(path)
    name = "encoder.layer.0.output.dense.weight"
    save_file(weights | {name: weights[name].astype("int8")}, path, {"format": "pt"})
    assert f"{name} is I8" in refusal(base)


@pytest.mark.parametrize(
    "config",
    [{"hidden_size": 33}, {"hidden_act": "swosh"}, {"num_attention_heads": 0}, {"hidden_size": "large"}],
)
def test_a_configuration_that_makes_no_model_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = make_model_folder(tmp_path / "base")
    change_config(folder, **config)
    assert "onfiguration" in refusal(folder)


def test_token_ids_without_an_embedding_are_refused(base: Path) -> None:
    found = examine(base)
    check_vocabulary(found, {"splits": {"train": {"largestTokenId": 319}, "test": {}}, "padTokenId": 0})
    for largest, pad in ((320, 0), (5, 320)):
        with pytest.raises(Failure, match=r"320.*resize_token_embeddings") as caught:
            check_vocabulary(found, {"splits": {"train": {"largestTokenId": largest}}, "padTokenId": pad})
        assert caught.value.reason == "ModelInvalid"


def test_a_length_above_the_positions_is_refused_with_the_largest(base: Path) -> None:
    check_length(examine(base), 64)
    with pytest.raises(Failure, match=r"maxLength is 65.*64 or less") as caught:
        check_length(examine(base), 65)
    assert caught.value.reason == "InvalidArgument"


def test_an_encoder_without_its_own_head_may_become_a_decoder_and_that_is_told(base: Path) -> None:
    found = examine(base, "text-generation")
    assert found.made_causal
    reasons = [w.reason for w in warn_of_model(found, [])]
    assert reasons == ["NewlyInitialized", "MadeCausal"]


def test_a_head_for_other_classes_is_told(base: Path) -> None:
    save_weights(base, "AutoModelForSequenceClassification", id2label={0: "spam", 1: "ham"})
    assert warn_of_model(examine(base), ["ham", "spam"]) == []
    (warning,) = warn_of_model(examine(base), ["negative", "positive"])
    assert warning.reason == "NewHead" and "'spam'" in warning.message and "'positive'" in warning.message
    config = json.loads((base / "config.json").read_text())
    places = {"id2label": {"1": "spam", "2": "ham"}, "label2id": {"spam": 1, "ham": 2}}
    (base / "config.json").write_text(json.dumps(config | places))
    (warning,) = warn_of_model(examine(base), ["ham", "spam"])
    assert warning.reason == "NewHead" and "doesn't number its classes from 0 on" in warning.message


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({}, None, ()),
        ({"training__optim": "adamw_bnb_8bit"}, "InvalidArgument", ("adamw_bnb_8bit", "bitsandbytes")),
        ({"training__args": {"use_liger_kernel": True}}, "InvalidArgument", ("liger",)),
        (
            {"deepspeed": {"zero_optimization": {"stage": 1}, "gradient_clipping": 3.0}},
            "InvalidArgument", ("gradient_clipping=3.0", "max_grad_norm=1.0"),
        ),
        ({"deepspeed": {"zero_optimization": {"stage": 7}}}, "InvalidArgument", ("stage",)),
    ],
    ids=["all is well", "optimizer", "argument", "clipping", "stage"],
)  # fmt: skip
def test_settings_are_tried_in_a_process_of_their_own(
    model_folder: Path, changes: dict[str, Any], reason: str | None, words: tuple[str, ...]
) -> None:
    with starting_preflight(make_run(**changes), model_folder) as preflight:
        if reason is None:
            assert preflight.finish() is preflight.finish()
            return
        with pytest.raises(Failure) as caught:
            preflight.finish()
    assert caught.value.reason == reason and all(word in caught.value.message for word in words), caught.value


def test_a_preflight_that_dies_says_so(model_folder: Path) -> None:
    with starting_preflight(make_run(), model_folder) as preflight:
        preflight._process.kill()
        with pytest.raises(Failure, match="memory"):
            preflight.finish()


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("embeddings.position_ids", (1, 64), "int64"),  # roberta-base, xlm-roberta-base, all-mpnet-base-v2
        ("embeddings.token_type_ids", (1, 64), "int64"),
        ("encoder.layer.0.attention.bias", (1, 1, 64, 64), "uint8"),  # as Pythia's causal mask
        ("encoder.layer.1.attn.bias", (1, 1, 64, 64), "bool"),
        ("encoder.layer.0.attn.masked_bias", (), "float32"),  # as GPT-2's
        ("encoder.layer.0.attention.rotary_emb.inv_freq", (8,), "float32"),
        ("encoder.embed_positions.weights", (66, 32), "float32"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_tables_that_older_releases_saved_beside_the_weights_are_left_out(
    base: Path, prefix: str, name: str, shape: tuple[int, ...], dtype: str
) -> None:
    rename_keys(base, prefix)
    path = base / "model.safetensors"
    save_file(load_file(path) | {prefix + name: np.ones(shape, dtype)}, path)
    found = examine(base).findings
    assert found.new == ("classifier.bias", "classifier.weight")
    assert set(found.unexpected) <= {prefix + name}


@pytest.mark.parametrize("name", ["encoder.layer.0.attn.bias", "encoder.layer.0.attention.self.scale"])
def test_a_weight_that_the_model_has_no_place_for_is_no_such_table(base: Path, name: str) -> None:
    path = base / "model.safetensors"
    save_file(load_file(path) | {name: np.ones(32, "float32")}, path)
    assert "no place for" in (message := refusal(base)) and name in message


def make_weights(folder: Path, family: str, auto_class: str, **config: Any) -> Path:
    """The weights and the configuration of a small new model, saved as `auto_class` saves them."""
    import torch
    import transformers

    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(family, **config)
    getattr(transformers, auto_class).from_config(made).save_pretrained(folder)
    return folder


FUNNEL = {
    "vocab_size": 64, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_model": 32, "n_head": 2, "d_head": 16,
    "d_inner": 64,
}  # fmt: skip


def test_a_part_that_the_task_has_no_use_for_is_left_out(tmp_path: Path) -> None:
    make_weights(tmp_path, "funnel", "AutoModelForMaskedLM", **FUNNEL)
    found = examine(tmp_path).findings
    assert all(name.startswith("classifier.") for name in found.new)
    assert any(name.startswith("funnel.decoder.") for name in found.unexpected)
    change_config(tmp_path, block_sizes=[1], block_repeats=[1])
    assert "no place for" in (message := refusal(tmp_path)) and "funnel.encoder" in message


def test_a_model_without_an_embedding_of_tokens_takes_any(tmp_path: Path) -> None:
    make_weights(tmp_path, "canine", "AutoModel", num_hash_buckets=64, max_position_embeddings=64, **SIZES)
    found = examine(tmp_path)
    assert found.vocabulary is None
    assert "PaddingSeen" in [warning.reason for warning in warn_of_model(found, ["a", "b"])]
    check_vocabulary(found, {"splits": {"train": {"largestTokenId": 0x1F600}}, "padTokenId": 0})


@pytest.mark.parametrize(
    ("family", "task", "words"),
    [
        ("mpnet", "text-generation", "no causal language model of type mpnet"),
        ("mamba", "text-classification", "no classifier of type mamba"),
    ],
)
def test_a_family_without_a_model_of_the_task_is_called_so(
    tmp_path: Path, family: str, task: str, words: str
) -> None:
    make_weights(tmp_path, family, "AutoModel", vocab_size=64, **SIZES)
    message = refusal(tmp_path, task)
    assert words in message and len(message) < 200


BART = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 320,
}  # fmt: skip


def test_families_that_classify_at_the_end_token_are_known(base: Path, tmp_path: Path) -> None:
    make_weights(tmp_path / "bart", "bart", "AutoModelForSeq2SeqLM", **BART)
    assert examine(tmp_path / "bart").reads_end and not examine(base).reads_end
