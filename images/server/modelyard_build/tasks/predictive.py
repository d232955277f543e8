"""What tasks share whose models answer a text with one vector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from modelyard.contract.model import REFERENCE_ROWS, REFERENCE_TOKENS, EmbeddingReference, Reference
from modelyard_server.package.tokens import Row, Tokens
from modelyard_server.serving.predictor import Predictor
from modelyard_server.serving.served import Served

from modelyard_build.rows import Rows
from modelyard_build.tasks.task import BuildTask

_LOOKED_AT = 256  # requests, from which those of the reference are taken
_SPECIAL = 8  # tokens that a tokenizer may put around a text
# Share of the largest number that rounding explains between two machines, as where a trained model is exported.
_DTYPES = {"bf16": "bfloat16", "int8": "int8"}
_TOLERANCES = {"float32": 0.01, "float16": 0.02, "bfloat16": 0.05, "int8": 0.1}


class PredictiveTask(BuildTask):
    """A request is a row of tokens, as the server makes them; an answer a vector."""

    async def make_requests(self, model: Served, rows: Rows) -> list[Row]:
        """Rows that are too long are cut, as the server does where it is asked to."""
        predictor = cast(Predictor, model)
        if rows.texts is not None:
            return await predictor.encode(rows.texts, truncate=True)
        return [predictor.take(ids, truncate=True) for ids in rows.ids or []]

    async def ask(self, model: Served, request: Row) -> Any:
        """The vector."""
        return (await cast(Predictor, model).answer([request]))[0]

    async def refer(
        self, model: Served, requests: Sequence[Row], split: str
    ) -> Reference | EmbeddingReference:
        """Short rows with texts that lead to their tokens, where there are such."""
        predictor = cast(Predictor, model)
        tokens = predictor.package.tokens
        picked = pick_rows(tokens, requests)
        vectors = np.stack(await predictor.answer_proof([tokens.take(ids) for _, ids in picked]))
        return self.describe(picked, vectors, find_dtype(predictor), split)

    @abstractmethod
    def describe(
        self, rows: Sequence[tuple[str | None, list[int]]], vectors: Any, dtype: str, split: str
    ) -> Reference | EmbeddingReference:
        """The reference of texts with their tokens, and the vectors (rows, numbers) that they got."""


def pick_rows(tokens: Tokens, requests: Sequence[Row]) -> list[tuple[str | None, list[int]]]:
    """Texts and their tokens, always the same of the same requests: short ones, spread over them, no two alike."""
    looked_at = [row.ids.tolist() for row in requests[:_LOOKED_AT]]
    short = [ids for ids in looked_at if len(ids) <= REFERENCE_TOKENS]
    taken = short if len(short) >= REFERENCE_ROWS else sorted(looked_at, key=len)[:REFERENCE_ROWS]
    rows = {tuple(ids): (text, ids) for text, ids in (_read(tokens, ids) for ids in taken)}
    kept = list(rows.values())
    if len(kept) <= REFERENCE_ROWS:
        return kept
    return [kept[round(i * (len(kept) - 1) / (REFERENCE_ROWS - 1))] for i in range(REFERENCE_ROWS)]


def find_dtype(predictor: Predictor) -> str:
    """What a variant computes in, as references have it."""
    variant = predictor.package.config.variant
    if variant in _DTYPES:
        return _DTYPES[variant]
    return str(predictor.package.about.dtype or "float32").removeprefix("torch.")


def find_tolerance(dtype: str, largest: float) -> float:
    """By how much an answer whose numbers are at most `largest` may differ elsewhere."""
    return max(largest, 1e-6) * _TOLERANCES.get(dtype, max(_TOLERANCES.values()))


def _read(tokens: Tokens, ids: list[int]) -> tuple[str | None, list[int]]:
    own = ids if len(ids) <= REFERENCE_TOKENS else [*ids[: REFERENCE_TOKENS - 1], ids[-1]]
    text = tokens.decode(ids if own is ids else ids[: REFERENCE_TOKENS - _SPECIAL])
    again = tokens.encode(text).ids.tolist() if text else []
    return (text, again) if 0 < len(again) <= REFERENCE_TOKENS else (None, own)
