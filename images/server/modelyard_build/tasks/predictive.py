"""What tasks share whose models answer a text with one vector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from modelyard.contract.model import EmbeddingReference, Reference
from modelyard_models.failure import Failure
from modelyard_server.package.folder import Package
from modelyard_server.package.tokens import Row
from modelyard_server.serving.predictor import Predictor
from modelyard_server.serving.served import Served
from modelyard_server.serving.service import Service

from modelyard_build.rows import Rows
from modelyard_build.tasks.task import Answers, Asker, BuildTask, Picked, pick_rows


class RowAsker(Asker[Predictor]):
    """A request is a row of tokens as the server makes them, an answer a vector."""

    def __init__(self, model: Predictor, rows: Sequence[Row]) -> None:
        super().__init__(model, len(rows))
        self.rows = rows

    async def ask(self, number: int) -> Any:
        """The vector."""
        return (await self.model.answer([self.rows[number]]))[0]


class PredictiveTask(BuildTask):
    """Its models are asked as the server asks them, whatever computes them."""

    async def make_asker(self, service: Service, model: Served, rows: Rows) -> RowAsker:
        """Rows that are too long are cut, as the server does where it is asked to."""
        assert isinstance(model, Predictor)  # noqa: S101 - as the server's task makes it
        if rows.texts is None:
            return RowAsker(model, [model.take(ids, truncate=True) for ids in rows.ids or []])
        read = [row for row in await model.encode(rows.texts, truncate=True) if len(row)]
        if not read:
            raise Failure("InvalidBuildConfig", "no text has a token: give other ones")
        return RowAsker(model, read)

    async def refer(self, asker: RowAsker, split: str) -> Reference | EmbeddingReference:
        """The answers to a few rows, by which a server knows the variant again."""
        package = asker.model.package
        picked = pick_rows(package.tokens, [row.ids.tolist() for row in asker.rows])
        vectors = await asker.model.answer_proof([package.tokens.take(ids) for _, ids in picked])
        return self.describe(picked, np.stack(vectors), package, split)

    @abstractmethod
    def gather(self, model: Predictor, vectors: Sequence[Any]) -> Answers:
        """The vectors of the first rows, for `compare`."""

    @abstractmethod
    def describe(
        self, rows: Sequence[Picked], vectors: Any, package: Package, split: str
    ) -> Reference | EmbeddingReference:
        """The reference of rows, and the vectors (rows, numbers) that they got of a package's model."""
