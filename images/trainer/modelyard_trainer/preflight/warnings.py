"""What is told of a base model that can be trained, but not as one may believe."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.contract.report import DataWarning
from modelyard_models.failure import shorten

from modelyard_trainer.preflight.base import Base
from modelyard_trainer.preflight.head import choose_head

_SHOWN = 4  # names in a message


def warn_of_model(base: Base, labels: Sequence[str]) -> list[DataWarning]:
    """Warnings about the base model. `labels` are the data's classes, empty for text-generation.

    A head that the base model never had goes without saying: it is in the trained model's modelyard.json.
    """
    found = []
    if base.labels is not None and not choose_head(base.labels, labels).kept:
        told = (
            f"tells {len(base.labels)} classes apart ({shorten(base.labels, _SHOWN)})"
            if base.labels
            else "doesn't number its classes from 0 on (id2label in its config.json)"
        )
        found.append(
            DataWarning(
                reason="NewHead",
                count=len(base.labels) or None,
                message=f"the base model {told}, the data have {len(labels)} ({shorten(labels, _SHOWN)}): its head"
                " is replaced by a new one. To train it further, name the data's classes as it does",
            )
        )
    layers = [name for name in base.findings.new if not labels or "pooler." in name]
    if layers:
        found.append(
            DataWarning(
                reason="NewlyInitialized",
                count=len(layers),
                message=f"the base model lacks {shorten(layers, _SHOWN)}, which begin at random; that is right if it"
                " was saved without them on purpose",
            )
        )
    if base.sees_padding:
        found.append(
            DataWarning(
                reason="PaddingSeen",
                message="a model of this family sees the padding beside a text, so that its metrics change with the"
                " batch size and what it says of a text with the texts beside it; choose another base model, as bert"
                " or modernbert, if that matters",
            )
        )
    if base.made_causal:
        found.append(
            DataWarning(
                reason="MadeCausal",
                message="the base model is an encoder that sees the whole text; it is trained as a decoder (is_decoder:"
                " true), which it was not before: expect to train it for long",
            )
        )
    return found
