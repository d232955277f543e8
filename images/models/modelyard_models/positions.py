"""How many tokens a model can take at once.

Models with a table of positions hold no more tokens than it has rows, and some leave the first rows unused.
The rules below were measured on models of every family that transformers trains for our tasks; the tests
measure the families with a table again.
"""

from __future__ import annotations

import math
from typing import Any

# A row for each token, whether learned, sinusoidal or rotary made in advance; or another table of that size.
_WHOLE = frozenset({
    "albert", "bart", "bert", "bert-generation", "big_bird", "bigbird_pegasus", "biogpt", "blenderbot",
    "blenderbot-small", "canine", "codegen", "convbert", "ctrl", "distilbert", "electra", "ernie", "flaubert",
    "fnet", "git", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "layoutlm", "layoutlmv2", "marian", "mbart",
    "megatron-bert", "mobilebert", "mra", "mvp", "nystromformer", "openai-gpt", "opt", "pegasus", "perceiver",
    "plbart", "rembert", "roc_bert", "roformer", "squeezebert", "xlm", "yoso",
})  # fmt: skip
# Numbered from the padding's id + 1 on, so that the rows before it stay unused.
_AFTER_PADDING = frozenset({
    "camembert", "data2vec-text", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
_MPNET_PADDING = 1  # whatever its configuration says


def counts_from_padding(config: Any) -> bool:
    """Whether a model's positions begin after the padding token's id, so that another id moves them all."""
    return config.model_type in _AFTER_PADDING or config.model_type in ("esm", "prophetnet")


def longest_input(config: Any) -> int | None:
    """Tokens, special ones included, that a model of this configuration can take; None: no bound of its own.

    `config` is transformers' own, which knows the defaults that config.json leaves out. Models with relative
    positions, and with rotary ones that are computed for each text, have no table and so no bound, though they
    may know nothing of lengths that they were not trained on.
    """
    family = config.model_type
    padding = config.pad_token_id if isinstance(getattr(config, "pad_token_id", None), int) else 0
    if family in _WHOLE:
        return int(config.max_position_embeddings)
    if family in _AFTER_PADDING:
        return int(config.max_position_embeddings) - padding - 1
    match family:
        case "mpnet":
            return int(config.max_position_embeddings) - _MPNET_PADDING - 1
        case "prophetnet":  # its decoder looks one position further
            return int(config.max_position_embeddings) - padding - 2
        case "esm" if getattr(config, "position_embedding_type", "absolute") == "absolute":
            return int(config.max_position_embeddings) - padding - 1
        case "deberta" | "deberta-v2" if getattr(config, "position_biased_input", True):
            return int(config.max_position_embeddings)
        case "trocr" if config.use_learned_position_embeddings:
            return int(config.max_position_embeddings)
        case "whisper":
            return int(config.max_target_positions)
        case "mpt":  # relative, but made in advance
            return int(config.max_seq_len)
        case "reformer":
            axial = config.axial_pos_embds
            return math.prod(config.axial_pos_shape) if axial else int(config.max_position_embeddings)
    return None
