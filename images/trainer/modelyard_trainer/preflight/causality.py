"""Whether a language model sees only the tokens before the one it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelyard_trainer.failure import Failure

# Families whose language model sees the whole text, whatever its configuration says.
_NEVER = {
    "xlnet": "it predicts tokens in a permuted order",
    "xlm": "it predicts masked tokens",
    "flaubert": "it predicts masked tokens",
    "cpmant": "its attention goes both ways",
}
_ROWS = 2
_LENGTH = 16  # tokens; short, since every rank computes it before the first step
# Equal inputs give equal sums but for the order of rounding; a token that is seen changes logits by far more.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}


def make_causal(config: Any) -> bool:
    """Makes an encoder a decoder where its family can be one; says whether it did.

    BERT and its kin attend to both sides unless `is_decoder` is set, and so would copy the next token.
    Raises Failure (ModelInvalid) for families that can't.
    """
    kind = str(config.model_type)
    if kind in _NEVER:
        raise Failure(
            "ModelInvalid",
            f"a model of type {kind} can't be trained for text-generation: {_NEVER[kind]}, so that it would see what"
            " it has to predict; choose a causal model, as llama, qwen3 or gpt2",
        )
    if "is_decoder" not in config.to_dict() and not hasattr(config, "is_decoder"):
        return False
    if config.is_decoder or not _reads_flag(config):
        return False
    config.is_decoder = True
    return True


def _reads_flag(config: Any) -> bool:
    """Whether the family's language model asks `is_decoder`: those that are causal anyway never mention it."""
    import inspect

    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError:
        return False
    module = inspect.getmodule(model)
    return module is not None and "config.is_decoder" in inspect.getsource(module)


def check_causality(forward: Callable[[Any], Any], vocabulary: int, precision: str, kind: str) -> None:
    """Changes the last token of a row and looks whether any logit before it changes.

    `forward` takes input ids (int64, rows x tokens) to logits (rows x tokens x vocabulary). Raises Failure
    (ModelInvalid).
    """
    import torch

    ids = torch.arange(_LENGTH).remainder(max(1, vocabulary)).repeat(_ROWS, 1)
    ids[1, -1] = (ids[1, -1] + 1) % vocabulary
    logits = forward(ids).float()
    before = logits[:, : _LENGTH - 1]
    difference = float((before[0] - before[1]).abs().max())
    scale = float(before.abs().max().clamp(min=1e-6))
    if not difference <= _TOLERANCE[precision] * scale:
        raise Failure(
            "ModelInvalid",
            f"the model of type {kind} isn't causal: a token changes what is predicted before it (by {difference:.3g}"
            f" where logits reach {scale:.3g}), so that its loss would say nothing; choose a causal model, as llama,"
            " qwen3 or gpt2",
        )
