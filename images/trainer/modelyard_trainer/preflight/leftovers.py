"""Tables that older releases of transformers wrote beside the weights, and newer ones compute.

Positions, causal masks and rotary frequencies are no weights: nothing was ever learnt of them, and a model is whole
without them. Many public models still carry them: roberta-base its position_ids, Pythia its causal masks.
"""

from __future__ import annotations

import re

from modelyard_models.headers import TensorHeader

_TABLES = re.compile(
    r"(^|\.)(position_ids|token_type_ids|masked_bias|causal_mask|inv_freq|cos_cached|sin_cached|_float_tensor"
    r"|embed_positions|embed_positions\.weights|pos_encoding|version)$"
)
_MASK = re.compile(r"\.(attn|attention|self_attn)\.bias$")


def is_leftover(header: TensorHeader) -> bool:
    """Whether a tensor is such a table. A causal mask is called bias, but a bias has one dimension, and it four."""
    if _MASK.search(header.name):
        return len(header.shape) == 4 and header.shape[:2] == (1, 1)
    return _TABLES.search(header.name) is not None
