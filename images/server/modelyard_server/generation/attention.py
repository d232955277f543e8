"""Attention of several requests at once, without what no request needs."""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

_EAGER = "paged|eager"  # what transformers calls it, of models that have no other


def reads_pages(model: Any) -> bool:
    """Whether a model's attention is taken from transformers' table, by which it meets the cache; else it has none.

    The flag that models have for this is missing on some that do.
    """
    return all(m._can_set_attn_implementation() for m in model.modules() if isinstance(m, PreTrainedModel))


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cache: Any = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' sdpa_attention_forward, which computes (tokens of all) x (keys of all) and masks nearly all.

    Here each request's tokens meet only its own keys: half the time where contexts are long, and what is no number in
    one request is none of another's (a masked key still is multiplied, by 0). Shapes are (1, heads, tokens of all,
    size of a head). On a GPU so many small calls would take longer than the large one.
    """
    several = cache is not None and options["cu_seq_lens_q"].shape[0] > 2
    if not several or attention_mask is None or query.is_cuda:
        found, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, cache=cache, scaling=scaling, **options
        )
        return found, None
    key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=options)
    queries, keys = options["cu_seq_lens_q"].tolist(), options["cu_seq_lens_k"].tolist()
    _, heads, _, size = query.shape
    shared = heads // key.shape[1]  # heads that read the same keys
    parts = []
    for q0, q1, k0, k1 in zip(queries, queries[1:], keys, keys[1:], strict=False):
        own, mask = query[:, :, q0:q1], attention_mask[:, :, q0:q1, k0:k1]
        if alone := q1 - q0 == 1:  # one token: its heads can stand where tokens do, so no key is copied
            own = own.reshape(1, heads // shared, shared, size)
        out = torch.nn.functional.scaled_dot_product_attention(
            own,
            key[:, :, k0:k1],
            value[:, :, k0:k1],
            attn_mask=mask,
            scale=scaling,
            enable_gqa=shared > 1 and not alone,
        )
        parts.append(out.reshape(1, heads, 1, -1) if alone else out)
    return torch.cat(parts, 2).transpose(1, 2), None


def attend_eagerly(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cache: Any = None,
    **options: Any,
) -> Any:
    """The family's own, of which transformers' for all of them leaves out the bound of scores (Gemma 2).

    Also without a cache, so that a loaded model still can be asked plainly.
    """
    if cache is not None:
        key, value = cache.update(
            key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=options
        )
    own = sys.modules[type(module).__module__].eager_attention_forward
    return own(module, query, key, value, attention_mask, **options)


def install() -> None:
    """Takes the place of transformers' own for all models of the process."""
    AttentionInterface.register("sdpa", attend)
    AttentionInterface.register(_EAGER, attend_eagerly)
    AttentionMaskInterface.register(_EAGER, eager_mask)
