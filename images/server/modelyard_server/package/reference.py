"""The answers that a package must give: reading them, and how near is near enough."""

from __future__ import annotations

import logging
from typing import TypeVar

from modelyard.contract.layout import MODEL_REFERENCE
from modelyard.contract.model import EmbeddingReference, Reference
from modelyard_models.files import read_json
from pydantic import ValidationError

from modelyard_server.failure import Failure
from modelyard_server.package.folder import Package

log = logging.getLogger(__name__)

R = TypeVar("R", Reference, EmbeddingReference)

# What a variant's own rounding may change, as a multiple of what float32's may; a reference that was made in the
# variant's own format needs no more than it says. That a variant is good enough is the build's to say: here it is only
# known from another model.
_COARSER = {"bf16": ("bfloat16", 5.0), "int8": ("int8", 25.0)}


def read_reference(package: Package, kind: type[R], task: str) -> R | None:
    """The package's reference, where it has one of this task. Raises Failure (ModelInvalid) for one that is broken."""
    if not package.reference.is_file():
        return None
    found = read_json(package.reference)
    if isinstance(found, dict) and found.get("task") not in (None, task):
        log.warning("%s is of a model for %s: it is not compared with", MODEL_REFERENCE, found["task"])
        return None
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise Failure(
            "ModelInvalid", f"{package.config.folder}: {MODEL_REFERENCE} is broken: export the model anew"
        ) from error


def tolerance(package: Package, reference: Reference | EmbeddingReference) -> float:
    """By how much an answer may differ from the reference's."""
    dtype, factor = _COARSER.get(package.config.variant, (reference.dtype, 1.0))
    return reference.tolerance * (1.0 if reference.dtype == dtype else factor)


def check_tokens(package: Package, reference: Reference | EmbeddingReference) -> None:
    """Raises Failure (ModelUnproven) where the tokenizer makes other tokens of the texts."""
    for row in reference.rows:
        if row.text is not None and package.tokens.encode(row.text).ids.tolist() != row.input_ids:
            raise Failure(
                "ModelUnproven",
                f"{package.config.folder}: its tokenizer makes other tokens of a text than the one that the model was"
                " trained with; put the files back together that were exported together",
            )


def check_difference(package: Package, reference: Reference | EmbeddingReference, worst: float) -> None:
    """Raises Failure (ModelUnproven) for a difference that rounding doesn't explain, or that is no number."""
    allowed = tolerance(package, reference)
    if not worst <= allowed:
        raise Failure(
            "ModelUnproven",
            f"{package.config.folder}: its answers differ from {MODEL_REFERENCE} by {worst:.4g}, where rounding"
            f" explains {allowed:.2g}; put the files back together that were exported together",
        )
    log.info("the answers differ from %s by %.2g at most, of %.2g", MODEL_REFERENCE, worst, allowed)
