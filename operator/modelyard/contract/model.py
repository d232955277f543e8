"""What lies beside a model's weights: what it answered when it was trained, and how it was proved whole."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelyard.contract.base import ContractModel, Versioned

REFERENCE_ROWS = 8  # at most
REFERENCE_TOKENS = 64  # of each row, at most
REFERENCE_CANDIDATES = 16  # of each row, at most


class ReferenceRow(ContractModel):
    """One input, and what the trained model answered before it was written."""

    text: str | None = Field(
        description="A row of the data, or its beginning; unset where token ids stand for no text."
    )
    input_ids: list[int] = Field(
        description="What the base model's tokenizer makes of the text, special tokens included.",
        min_length=1,
    )
    candidates: list[int] = Field(
        description="The likeliest classes, or next tokens, the likeliest first.",
        min_length=1,
        max_length=REFERENCE_CANDIDATES,
    )
    log_probs: list[float] = Field(
        description="Natural logarithm of each candidate's probability, over all classes or tokens."
    )
    logits: list[float] | None = Field(
        None,
        description="What the model gives each candidate, where classes don't share one probability among them: of a"
        " single class the logarithm is always 0.",
    )


class Reference(Versioned):
    """Content of reference.json in a model's folder: rows of the data, and the trained model's answers."""

    task: str
    split: Literal["train", "validation", "texts"] = Field(description="Where the rows come from.")
    dtype: str = Field(description="What the answers were computed in, as float32 or bfloat16.")
    tolerance: float = Field(
        description="What another machine's rounding may change of a logarithm at this dtype.", gt=0
    )
    rows: list[ReferenceRow] = Field(max_length=REFERENCE_ROWS)


class EmbeddingRow(ContractModel):
    """One input, and the vector that the model makes of it."""

    text: str | None = None
    input_ids: list[int] = Field(min_length=1)
    embedding: list[float] = Field(min_length=1)


class EmbeddingReference(Versioned):
    """Content of reference.json in the folder of a model whose answers are vectors."""

    task: str
    dtype: str = Field(description="What the answers were computed in, as float32 or bfloat16.")
    tolerance: float = Field(
        description="What another machine's rounding may change of a number at this dtype.", gt=0
    )
    rows: list[EmbeddingRow] = Field(max_length=REFERENCE_ROWS)


class Proof(ContractModel):
    """How it was shown that the folder holds the model that was trained.

    In both cases all tensors are in the files with their shapes and types, and rows of `tensors` of them were
    compared with the trained ones, bit by bit. `reload`: a fresh process loaded the folder and gave the answers of
    reference.json.
    """

    method: Literal["reload", "sampled"]
    tensors: int
    rows: int = Field(0, description="Rows of reference.json that were answered again.")
    max_difference: float | None = Field(
        None, description="Largest difference of a logarithm of a probability, in nats."
    )
    tolerance: float | None = None
    note: str | None = Field(None, description="Why the model was not loaded a second time.")
