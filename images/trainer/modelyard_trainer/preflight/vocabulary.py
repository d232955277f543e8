"""Whether the model has an embedding for every token that the data came to."""

from __future__ import annotations

from typing import Any

from modelyard_trainer.failure import Failure
from modelyard_trainer.preflight.base import Base


def check_vocabulary(base: Base, report: dict[str, Any]) -> None:
    """Compares a dataset's report with the model. Raises Failure (ModelInvalid)."""
    if base.vocabulary is None:
        return
    largest = max((about.get("largestTokenId", 0) for about in report["splits"].values()), default=0)
    for what, token in (
        ("the data's largest token id", largest),
        ("the padding token's id", report.get("padTokenId")),
    ):
        if token is not None and token >= base.vocabulary:
            raise Failure(
                "ModelInvalid",
                f"{what} is {token}, but the model has embeddings for {base.vocabulary} tokens only (0 to"
                f" {base.vocabulary - 1}): tokens were added to its tokenizer and not to the model. Call"
                " model.resize_token_embeddings(len(tokenizer)) and save both, or take the tokenizer that belongs to"
                " the model",
            )
