"""How many tokens a model takes: our rules against what real small models of each family do."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard_models.positions import longest_input

ROWS = 24  # of the table of positions
_SMALL = {
    "vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 64, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "ffn_dim": 64, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_layers": 1, "n_heads": 2, "emb_dim": 32, "dim": 32,
    "hidden_dim": 64, "embedding_size": 32, "num_layers": 1, "num_heads": 2, "word_embed_proj_dim": 32, "dff": 64,
    "num_decoder_layers": 1, "num_encoder_layers": 1, "num_key_value_heads": 2, "input_embedding_size": 32,
    "output_embedding_size": 32, "pooler_hidden_size": 32,
}  # fmt: skip
_LANGUAGE_ONLY = {
    "bert-generation", "blenderbot", "blenderbot-small", "codegen", "git", "marian", "pegasus", "prophetnet",
    "trocr", "whisper",
}  # fmt: skip
# What a family needs beside the sizes above to be small, or to be at all.
_MORE: dict[str, dict[str, Any]] = {
    "codegen": {"rotary_dim": 4, "num_attention_heads": 4},
    "esm": {"pad_token_id": 1, "mask_token_id": 4, "position_embedding_type": "absolute"},
    "git": {"vision_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32}},
    "gpt_neo": {"attention_types": [[["global"], 1]]},
    "gptj": {"rotary_dim": 4},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4, "visual_embed": False},
    "lilt": {"hidden_size": 48},
    "luke": {"entity_vocab_size": 20, "entity_emb_size": 16},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32},
    "mpt": {"max_seq_len": ROWS},
    "perceiver": {"d_latents": 32, "num_latents": 8, "num_self_attends_per_block": 1, "num_cross_attention_heads": 2,
                  "num_self_attention_heads": 2},
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (4, 6), "attn_layers": ["local", "lsh"]},
    "whisper": {"max_target_positions": ROWS, "max_source_positions": ROWS, "pad_token_id": 0, "eos_token_id": 1},
}  # fmt: skip
_TABLES = [
    "albert", "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "biogpt", "blenderbot",
    "blenderbot-small", "camembert", "canine", "codegen", "convbert", "ctrl", "data2vec-text", "deberta",
    "deberta-v2", "distilbert", "electra", "ernie", "esm", "flaubert", "fnet", "git", "gpt2", "gpt_bigcode",
    "gpt_neo", "gptj", "ibert", "layoutlm", "layoutlmv3", "lilt", "longformer", "luke", "marian", "markuplm",
    "mbart", "megatron-bert", "mobilebert", "mpnet", "mpt", "mra", "mvp", "nystromformer", "openai-gpt", "opt",
    "pegasus", "perceiver", "plbart", "prophetnet", "reformer", "rembert", "roberta", "roberta-prelayernorm",
    "roc_bert", "roformer", "squeezebert", "trocr", "whisper", "xlm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    "yoso",
]  # fmt: skip


def make_config(family: str, **more: Any) -> Any:
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[family]
    known = kind().to_dict().keys() | getattr(kind, "attribute_map", {}).keys()
    values = {name: value for name, value in _SMALL.items() if name in known}
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"):
        if isinstance(default := getattr(kind(), name, None), int) and default >= _SMALL["vocab_size"]:
            values[name] = 1
    config = kind(**values | {"max_position_embeddings": ROWS} | _MORE.get(family, {}) | more)
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0
    return config


def takes(model: Any, length: int) -> bool:
    """Whether a model computes a text of so many tokens."""
    import torch

    ids = torch.randint(5, 100, (1, length), generator=torch.Generator().manual_seed(1))
    if isinstance(getattr(model.config, "eos_token_id", None), int):
        ids[:, -1] = model.config.eos_token_id  # some classify at its place
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError, ValueError):
        return False
    return True


def make_model(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    language = config.model_type in _LANGUAGE_ONLY
    model = (AutoModelForCausalLM if language else AutoModelForSequenceClassification).from_config(config)
    if config.model_type == "xmod":
        model.set_default_language(config.languages[0])
    return model.eval()


@pytest.mark.parametrize("family", _TABLES)
def test_a_model_with_a_table_takes_just_as_many_tokens(family: str) -> None:
    config = make_config(family)
    longest = longest_input(config)
    assert longest is not None and ROWS - 3 <= longest <= ROWS
    model = make_model(config)
    assert takes(model, longest) and not takes(model, longest + 1)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("family", ["roberta", "longformer", "mpnet", "ibert", "prophetnet", "opt", "esm"])
def test_the_paddings_id_counts_where_positions_begin_after_it(family: str, padding: int) -> None:
    config = make_config(family, pad_token_id=padding)
    longest = longest_input(config)
    model = make_model(config)
    assert longest is not None and takes(model, longest) and not takes(model, longest + 1)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", {}),
        ("bloom", {}),
        ("modernbert", {"pad_token_id": 0}),
        ("qwen2", {}),
        ("deberta-v2", {"position_biased_input": False, "relative_attention": True}),
        ("esm", {"position_embedding_type": "rotary"}),
    ],
)
def test_a_model_without_a_table_has_no_bound(family: str, more: dict[str, Any]) -> None:
    config = make_config(family, **more)
    assert longest_input(config) is None
    assert takes(make_model(config), 2 * ROWS)


def test_the_rows_are_those_of_the_real_configuration_even_where_config_json_is_silent() -> None:
    from transformers import CONFIG_MAPPING

    longest = {
        family: longest_input(CONFIG_MAPPING[family]()) for family in ("mpnet", "longformer", "gpt2", "bert")
    }
    assert longest == {"mpnet": 510, "longformer": 510, "gpt2": 1024, "bert": 512}
