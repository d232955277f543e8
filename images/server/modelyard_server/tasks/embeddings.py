"""embeddings: one vector for a text, by any encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from modelyard.contract.model import EmbeddingReference
from modelyard_models.files import read_json
from starlette.routing import Route

from modelyard_server.failure import Failure
from modelyard_server.package.folder import Package
from modelyard_server.package.reference import check_difference, check_tokens, read_reference
from modelyard_server.package.tokens import Batch
from modelyard_server.protocols import openai
from modelyard_server.runtimes.runtime import Floats, Output
from modelyard_server.serving.head import Head, TensorInfo
from modelyard_server.serving.predictor import Predictor
from modelyard_server.serving.service import Service
from modelyard_server.tasks.pooling import read_pooling
from modelyard_server.tasks.task import PredictiveTask, post


class VectorHead(Head):
    """`embedding`, pooled and normalised as the folder says."""

    output = Output("AutoModel", "last_hidden_state", rank=3, needs_all=False)

    def __init__(self, package: Package) -> None:
        super().__init__(package)
        self._pooling = read_pooling(package.folder)
        if self._pooling.mode == "lasttoken":
            _check_end(package)
        self._size = int(package.about.get_text_config().hidden_size)

    def read(self, found: Floats, batch: Batch) -> Floats:
        """Pooled hidden states."""
        return self._pooling.pool(found, batch.mask)

    async def prove(self, predictor: Predictor) -> None:
        """Compares the vectors, number by number, with the reference's."""
        reference = read_reference(self.package, EmbeddingReference, Embeddings.name)
        if reference is None or not reference.rows:
            self._check_size(await predictor.probe(), self._size)
            return
        check_tokens(self.package, reference)
        rows = [self.package.tokens.take(row.input_ids) for row in reference.rows]
        worst = 0.0
        for row, vector in zip(reference.rows, await predictor.answer_proof(rows), strict=True):
            self._check_size(vector, len(row.embedding))
            worst = max(worst, float(np.abs(vector - np.asarray(row.embedding)).max()))
        check_difference(self.package, reference, worst)

    def _check_size(self, vector: Floats, size: int) -> None:
        if vector.shape != (size,):
            raise Failure("ModelUnproven", f"an embedding has {len(vector)} numbers, and must have {size}")

    def list_outputs(self) -> Sequence[TensorInfo]:
        """embedding."""
        return (TensorInfo("embedding", "FP32", (self._size,)),)

    def make_outputs(self, names: Sequence[str], vectors: Sequence[Floats]) -> list[list[str] | Floats]:
        """The vectors, one after the other."""
        return [np.concatenate(vectors) for _ in names]


def _check_end(package: Package) -> None:
    """Refuses a tokenizer that leaves out the end of a text, which is what such a model says of all of it.

    transformers 5 heeds a setting no more that those before it did (mteb#5230). Raises Failure (ModelInvalid).
    """
    settings = read_json(package.folder / "tokenizer_config.json")
    told = isinstance(settings, dict) and settings.get("add_eos_token") is True
    if told and package.tokens.end not in package.tokens.encode("a").ids[-1:]:
        raise Failure(
            "ModelInvalid",
            "its vectors are those of the last token, and tokenizer_config.json has add_eos_token, of which"
            " tokenizer.json knows nothing: it must put the end-of-text token behind a text itself (post_processor)",
        )


class Embeddings(PredictiveTask):
    """Models that transformers loads as AutoModel; OpenAI's endpoint answers as well."""

    name = "embeddings"
    head = VectorHead

    def list_routes(self, service: Service) -> list[Route]:
        """Those of the Open Inference Protocol, and /v1/embeddings."""
        own = post(service, "/v1/embeddings", openai.Embeddings(service), "openai", openai.render)
        return [*super().list_routes(service), own]
