"""embeddings: how near vectors are to those of the model as trained, and whether they find the same neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from modelyard.contract.model import EmbeddingReference, EmbeddingRow
from modelyard_server.package.folder import Package
from modelyard_server.serving.predictor import Predictor
from modelyard_server.tasks.embeddings import VectorHead

from modelyard_build.rows import Rows
from modelyard_build.tasks.predictive import PredictiveTask
from modelyard_build.tasks.task import Answers, Picked, find_dtype, find_tolerance

AS_NEAR = 0.01  # of cosine: neighbours no farther than that from the nearest are as good


class Embeddings(PredictiveTask):
    """A row agrees if its nearest other row is, as the model as trained has it, as near as its nearest (AS_NEAR).

    The metric `cosine` is the mean over the rows of the cosine of both vectors of a text.
    """

    name = "embeddings"
    output = VectorHead.output
    telling = False

    def fits(self, architecture: str) -> bool:
        """Any has hidden states."""
        return True

    def gather(self, model: Predictor, vectors: Sequence[Any]) -> Answers:
        """`vectors` (rows, numbers)."""
        return {"vectors": np.stack(vectors)}

    def compare(self, answers: Answers, base: Answers, rows: Rows) -> tuple[dict[str, float], float]:
        """`cosine`, and the agreement."""
        found, wanted = _normalise(answers["vectors"]), _normalise(base["vectors"])
        return {"cosine": float((found * wanted).sum(-1).mean())}, _share_neighbours(found, wanted)

    def describe(
        self, rows: Sequence[Picked], vectors: Any, package: Package, split: str
    ) -> EmbeddingReference:
        """The vectors."""
        dtype = find_dtype(package.config.variant, package.about)
        return EmbeddingReference(
            task=self.name,
            dtype=dtype,
            tolerance=find_tolerance(dtype, float(np.abs(vectors).max())),
            rows=[
                EmbeddingRow(text=text, input_ids=ids, embedding=vector.tolist())
                for (text, ids), vector in zip(rows, vectors, strict=True)
            ],
        )


def _normalise(vectors: Any) -> Any:
    wide = vectors.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)


def _share_neighbours(found: Any, wanted: Any) -> float:
    """Of unit vectors (rows, numbers), two for each text."""
    if len(wanted) < 2:
        return float((found * wanted).sum(-1).min() >= 1 - AS_NEAR)
    near = wanted @ wanted.T
    np.fill_diagonal(near, -np.inf)
    theirs = found @ found.T
    np.fill_diagonal(theirs, -np.inf)
    chosen = np.take_along_axis(near, theirs.argmax(-1)[:, None], -1)[:, 0]
    return float(np.mean(chosen >= near.max(-1) - AS_NEAR))
