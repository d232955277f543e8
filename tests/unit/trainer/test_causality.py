"""That no language model we train sees what it has to predict: tried on every family that transformers has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from modelyard_models.failure import Failure
from modelyard_trainer.preflight.causality import check_causality, make_causal
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

# By the names that families give to their sizes; each takes those it knows.
SIZES = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_key_value_heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 2),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"), 64),
    "vocab_size": 64, "max_position_embeddings": 64, "head_dim": 16,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LARGEST = 30_000_000  # parameters; some families ignore these names
# Families that people bring: each must be among those tried.
EXPECTED = {
    "bert", "bloom", "camembert", "cohere", "electra", "falcon", "gemma", "gemma2", "gpt2", "gpt_neox", "gpt_oss",
    "granite", "llama", "mamba", "mistral", "mixtral", "modernbert-decoder", "olmo2", "openai-gpt", "opt", "phi",
    "phi3", "qwen2", "qwen3", "roberta", "smollm3", "stablelm", "starcoder2", "xlm-roberta",
}  # fmt: skip


def make(family: str, **more: Any) -> Any:
    known = CONFIG_MAPPING[family]
    names = known().to_dict().keys() | getattr(known, "attribute_map", {}).keys()
    return known(**{name: value for name, value in SIZES.items() if name in names} | more)


def check(config: Any) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        check_causality(lambda ids: model(input_ids=ids).logits, 64, "float32", config.model_type)


def outcome(family: str) -> str:
    """How a family fares: causal, refused, leaking, or why it could not be tried at this size."""
    try:
        config = make(family)
    except Exception as error:  # sizes that don't go together in this family
        return f"not tried: {type(error).__name__}"
    try:
        make_causal(config)
    except Failure:
        return "refused"
    try:
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        if size > LARGEST:
            return "not tried: large"
        check(config)
    except Failure:
        return "leaking"
    except Exception as error:
        return f"not tried: {type(error).__name__}"
    return "causal"


def test_every_family_that_can_be_tried_is_causal_or_refused() -> None:
    outcomes = {family: outcome(family) for family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    assert [family for family, how in outcomes.items() if how == "leaking"] == []
    assert {family for family, how in outcomes.items() if how == "refused"} == {
        "cpmant",
        "flaubert",
        "xlm",
        "xlnet",
    } & set(outcomes)
    assert {family: outcomes[family] for family in EXPECTED} == dict.fromkeys(EXPECTED, "causal")
    assert sum(how == "causal" for how in outcomes.values()) > 110


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "big_bird", "bert-generation"])
def test_an_encoder_left_as_it_is_would_see_the_next_token(family: str) -> None:
    config = make(family)
    config.is_decoder = False
    with pytest.raises(Failure, match="isn't causal") as caught:
        check(config)
    assert caught.value.reason == "ModelInvalid"
    assert make_causal(config) and config.is_decoder
    check(config)


def test_what_is_causal_already_stays_as_it_is() -> None:
    for family in ("llama", "gpt2", "qwen3"):
        config: Any = AutoConfig.for_model(family)
        before = config.to_dict()
        assert not make_causal(config) and config.to_dict() == before
