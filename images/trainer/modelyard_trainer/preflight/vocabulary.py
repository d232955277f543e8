"""Whether the model can take the tokens that the data came to."""

from __future__ import annotations

from typing import Any

from modelyard_models.failure import Failure

from modelyard_trainer.preflight.base import Base


def check_ends(base: Base, report: dict[str, Any]) -> None:
    """Refuses rows without one end token each, for a model that classifies at it. Raises Failure (DataInvalid)."""
    if not base.reads_end:
        return
    counted = [about["endTokens"] for about in report["splits"].values() if "endTokens" in about]
    least = min((ends["least"] for ends in counted), key=lambda found: int(found["count"]), default=None)
    most = max((ends["most"] for ends in counted), key=lambda found: int(found["count"]), default=None)
    if least is None or most is None or least["count"] == most["count"] > 0:
        return
    if most["count"] == 0:
        raise Failure(
            "ModelInvalid",
            "the model classifies a text at its end token, and its tokenizer puts none at the end of a text; have the"
            " tokenizer add it (its post_processor in tokenizer.json), or choose another base model",
        )
    raise Failure(
        "DataInvalid",
        f"source {most['source']}, row {most['row']}: its tokens hold the model's end token {most['count']} times,"
        f" those of source {least['source']}, row {least['row']} {least['count']} times; this model classifies a text"
        " at its end token, so that each must hold as many: take the token's text (as </s>) out of the rows, or"
        " choose another base model",
    )


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
