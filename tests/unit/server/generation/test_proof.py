"""A causal model is ready when it gives the reference's answers, and its first tokens come the way requests' do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from modelyard_server.failure import Failure
from modelyard_server.generation import attention
from modelyard_server.serving.generator import Generator
from transformers import AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tests.unit.server.generation.test_engine import make, make_prompts, with_engine
from tests.unit.server.models import write_generator
from tests.unit.server.test_proof import edit_reference, edit_weights
from tests.unit.trainer.exported import LANGUAGE, write_model

_SMALL = {"n_embd": 32, "n_layer": 2, "n_head": 4}
UNPAGED: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2},
    # Attention that transformers' table of them knows nothing of, and so neither of the cache.
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "gptj": {**_SMALL, "rotary_dim": 4, "n_positions": 128},
    "codegen": {**_SMALL, "rotary_dim": 4, "n_positions": 128, "n_ctx": 128},
    "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": False},
    # Keys and values are compressed, and are of two sizes when they aren't.
    "deepseek_v3": {
        "hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
        "num_experts_per_tok": 2, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1,
    },
}  # fmt: skip
PAGED: dict[str, dict[str, Any]] = {
    "gemma2": {"head_dim": 8, "attn_logit_softcapping": 0.05, "query_pre_attn_scalar": 1},
    "gpt_oss": {
        "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "biogpt": {},  # lacks the flag of those that take attention from the table
}  # fmt: skip


async def nothing(model: Generator) -> None:
    """Being ready is enough."""


def refused(folder: Path, **config: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        with_engine(folder, nothing, **config)
    return caught.value


def stretch(folder: Path) -> None:
    """Makes the model surer of its tokens than rounding is of anything, and its reference with it."""

    def scale(weights: dict[str, Any]) -> None:
        for name, tensor in weights.items():
            if "norm" not in name:
                tensor *= 4

    edit_weights(folder, scale)
    reference = folder / "reference.json"
    if not reference.exists():
        return
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def ask(about: Any) -> None:
        for row in about["rows"]:
            with torch.inference_mode():
                found = model(torch.tensor([row["inputIds"]])).logits[0, -1].log_softmax(-1)
            best = found.topk(len(row["candidates"]))
            row.update(candidates=best.indices.tolist(), logProbs=best.values.tolist())

    edit_reference(folder, ask)


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


def test_a_token_that_is_none_of_the_likeliest_is_found_out_at_each_place(exported: Path) -> None:
    async def test(model: Generator) -> None:
        [ids] = make_prompts([9])
        made = await make(model, ids, 4)
        model._check_made(ids, made)
        for place in range(4):
            wrong = [*made[:place], (made[place] + 1) % 320, *made[place + 1 :]]
            with pytest.raises(
                Failure, match=f"batched, it continues a text with token .* at place {place + 1}"
            ):
                model._check_made(ids, wrong)

    stretch(exported)
    with_engine(exported, test)


@pytest.mark.parametrize("referred", [True, False])
def test_tokens_that_do_not_follow_those_before_them_are_found_out(
    exported: Path, monkeypatch: pytest.MonkeyPatch, referred: bool
) -> None:
    """As where a family's attention doesn't read the cache: only the first token is right."""
    if not referred:
        (exported / "reference.json").unlink()
    stretch(exported)
    monkeypatch.setattr(attention, "attend", forget(attention.attend))
    failure = refused(exported)
    assert failure.reason == "ModelUnproven"
    assert "batched, it continues a text with token" in failure.message
    assert "serve it with engine vllm" in failure.message


def forget(attend: Callable[..., Any]) -> Callable[..., Any]:
    def attend_alone(*args: Any, cache: Any = None, **options: Any) -> Any:
        module, query, key, value, mask = args
        length = query.shape[2]
        return attend(module, query, key, value, mask if mask is None else mask[..., -length:], **options)

    return attend_alone


def test_a_crash_of_the_first_step_is_the_models_and_lasts(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        if options.get("cache") is not None:
            raise RuntimeError("shapes differ")
        return sdpa_attention_forward(*args, **options)

    monkeypatch.setattr(attention, "attend", fail)
    failure = refused(exported)
    assert (failure.reason, failure.temporary) == ("ModelUnproven", False)
    assert "batched, the model does not answer: RuntimeError: shapes differ" in failure.message


def test_memory_of_a_device_that_the_first_step_does_not_find_is_not_the_models_fault(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        if options.get("cache") is not None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
        return sdpa_attention_forward(*args, **options)

    monkeypatch.setattr(attention, "attend", fail)
    failure = refused(exported)
    assert (failure.reason, failure.temporary) == ("ModelCrashed", True)
    assert "CUDA out of memory" in failure.message


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


@pytest.mark.parametrize(("family", "config"), UNPAGED.items())
def test_a_model_that_has_no_cache_of_this_kind_is_refused(
    tmp_path: Path, family: str, config: dict[str, Any]
) -> None:
    folder = tmp_path / "model"
    write_generator(folder, {"model_type": family, "vocab_size": 320, **config})
    failure = refused(folder)
    assert failure.reason == "ModelInvalid"
    assert "serve it with engine vllm" in failure.message


@pytest.mark.parametrize(("family", "config"), PAGED.items())
def test_families_with_an_attention_of_their_own_give_their_reference_and_continue_as_alone(
    tmp_path: Path, family: str, config: dict[str, Any]
) -> None:
    write_model(tmp_path, LANGUAGE, **config, model_type=family)
    folder = tmp_path / "model"
    stretch(folder)
    prompts = make_prompts([5, 20, 40])
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()

    async def test(model: Generator) -> None:
        found = await asyncio.gather(*(make(model, ids, 12) for ids in prompts))
        for ids, made in zip(prompts, found, strict=True):
            with torch.inference_mode():
                logits = plain(torch.tensor([ids + made[:-1]])).logits[0, len(ids) - 1 :]
            assert logits.argmax(-1).tolist() == made

    with_engine(folder, test)
