"""Whether a language model sees only the tokens before the one it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelyard_models.failure import Failure

# Families whose language model sees the whole text, whatever its configuration says.
_NEVER = {
    "xlnet": "it predicts tokens in a permuted order",
    "xlm": "it predicts masked tokens",
    "flaubert": "it predicts masked tokens",
    "cpmant": "its attention goes both ways",
}
_LENGTH = 16  # tokens; short, since every rank computes it before the first step
# As a share of the largest logit. A causal model's logits are the same to the bit, but for the order of rounding
# where tokens share a batch of an expert; encoders of random weights differ by 1e-3 in float32, trained ones by far
# more.
_TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 5e-3}


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


def check_causality(forward: Callable[[Any], Any], vocabulary: int | None, precision: str, kind: str) -> None:
    """Changes the second half of a row and looks whether any logit of the first half changes.

    `forward` takes input ids (int64, 1 x tokens) to logits (1 x tokens x vocabulary). Raises Failure
    (ModelInvalid).
    """
    import torch

    vocabulary = vocabulary or _LENGTH
    ids = torch.arange(_LENGTH).remainder(vocabulary)[None]
    half = _LENGTH // 2
    other = ids.clone()
    other[:, half:] = (other[:, half:] * 7 + 3) % vocabulary
    before, after = (forward(row)[:, :half].float() for row in (ids, other))
    difference = float((before - after).abs().max())
    scale = float(before.abs().max().clamp(min=1e-6))
    if not difference <= _TOLERANCE[precision] * scale:
        raise Failure(
            "ModelInvalid",
            f"the model of type {kind} isn't causal: later tokens change what is predicted before them (by"
            f" {difference:.3g} where logits reach {scale:.3g}), so that its loss would say nothing; choose a causal"
            " model, as llama, qwen3 or gpt2",
        )
