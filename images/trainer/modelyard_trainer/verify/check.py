"""The check itself: a folder against its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.contract.layout import MODEL_REFERENCE
from modelyard.contract.model import Reference

from modelyard_trainer.tasks import find_task
from modelyard_trainer.verify.answers import ask

_NAMES = 3  # of tensors, in a message


class Unproven(Exception):  # noqa: N818 - the domain's word
    """The folder is not the model that was trained. The message says in what it differs."""


def check_folder(folder: Path) -> float:
    """Largest difference between the folder's answers and its reference's, in nats.

    Raises Unproven where the tokenizer, the weights or the answers are others.
    """
    reference = Reference.model_validate_json((folder / MODEL_REFERENCE).read_bytes())
    _check_tokenizer(folder, reference)
    model = _load(folder, reference)
    worst = max(_difference(model, reference, index) for index in range(len(reference.rows)))
    if not worst <= reference.tolerance:  # what is no number is not within it either
        raise Unproven(
            f"its answers are others than the trained model's: a logarithm of a probability differs by {worst:.4g}, "
            f"where rounding explains {reference.tolerance:.2g}"
        )
    return worst


def _check_tokenizer(folder: Path, reference: Reference) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)  # as whoever loads the model has it
    for row in reference.rows:
        if row.text is not None and tokenizer(row.text)["input_ids"] != row.input_ids:
            raise Unproven(
                "its tokenizer makes other tokens of the same text than the one that prepared the data"
            )


def _load(folder: Path, reference: Reference) -> Any:
    import torch

    kind = find_task(reference.task).load_class()
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    for what, says in (
        ("missing_keys", "lacks weights, which would be made anew at random"),
        ("mismatched_keys", "has weights of other sizes than its configuration"),
        ("unexpected_keys", "has weights that its configuration has no place for"),
    ):
        if names := sorted(str(name) for name in info[what]):
            raise Unproven(f"it {says}: {', '.join(names[:_NAMES])}{' …' if len(names) > _NAMES else ''}")
    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise Unproven(f"its weight {name} holds values that are no numbers")
    return model.eval()


def _difference(model: Any, reference: Reference, index: int) -> float:
    row = reference.rows[index]
    logits = find_task(reference.task).pick_answer(ask(model, row.input_ids, "cpu"))
    found = logits.log_softmax(-1)[row.candidates]
    return float((found - found.new_tensor(row.log_probs)).abs().max())
