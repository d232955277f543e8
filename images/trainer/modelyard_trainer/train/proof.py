"""Nothing is called a model before it was loaded back and gave the trained model's answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from modelyard.contract.layout import MODEL_REFERENCE
from modelyard.contract.model import Proof, Reference
from modelyard_models.failure import Failure
from modelyard_models.files import write_json

from modelyard_trainer.train.memory import read_available
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.reference import no_numbers
from modelyard_trainer.train.reload import Reloaded, reload_folder, why_too_large
from modelyard_trainer.train.weights import compare_weights, find_no_number

_log = logging.getLogger("modelyard.train")


def check_numbers(trainer: Any, ranks: Ranks) -> None:
    """Refuses to write a model that holds values that are no numbers. Raises Failure (ModelUnproven)."""
    name = find_no_number(trainer.model, ranks)
    if name is not None:
        raise no_numbers(f"its weight {name} holds values that are no numbers")


def prove(trainer: Any, ranks: Ranks, folder: Path, reference: Reference, kept: str) -> Proof:
    """Shows that `folder` holds the trained model, and leaves the reference in it. For all ranks.

    `kept` names where the checkpoints are. Raises Failure: ModelUnproven; StorageError (temporary) where the
    folder can't be read just now.
    """
    problem, tensors = compare_weights(trainer.model, folder, ranks)
    if problem is not None:
        raise unproven(problem, kept)
    reloaded = Reloaded()
    if ranks.leads:
        write_json(folder / MODEL_REFERENCE, reference.model_dump(mode="json", by_alias=True))
        large = why_too_large(size_of(folder), read_available())
        reloaded = (
            Reloaded(unable=large) if large else reload_folder(folder, lambda: trainer.enter("exporting"))
        )
    reloaded = ranks.share(reloaded)
    if reloaded.problem is not None:
        raise unproven(reloaded.problem, kept)
    if reloaded.storage is not None:
        raise Failure(
            "StorageError",
            f"the written model can't be read back ({reloaded.storage}); it is written again",
            temporary=True,
        )
    if reloaded.unable is not None:
        _log.warning("the model is proved by its tensors only: %s", reloaded.unable)
        return Proof(method="sampled", tensors=tensors, note=reloaded.unable)
    _log.info("the model was loaded back; its answers differ by %.3g at most", reloaded.difference)
    return Proof(
        method="reload",
        tensors=tensors,
        rows=len(reference.rows),
        max_difference=reloaded.difference,
        tolerance=reference.tolerance,
    )


def unproven(what: str, kept: str) -> Failure:
    """The failure of a folder that is not the trained model."""
    return Failure(
        "ModelUnproven",
        f"what was written is not the model that was trained: {what}. Nothing was published; the training is kept in "
        f"the checkpoints of {kept}. This is a fault of the trainer image with this kind of model: report it with "
        "the log, and train with another image (trainer.image)",
    )


def size_of(folder: Path) -> int:
    """Bytes of a folder's weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
