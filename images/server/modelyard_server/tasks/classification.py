"""text-classification: the likeliest of several classes for a text, or each one's probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from modelyard.contract.model import Reference
from modelyard_models.failure import shorten

from modelyard_server.failure import Failure
from modelyard_server.package.folder import Package
from modelyard_server.package.reference import check_difference, check_tokens, read_reference
from modelyard_server.package.tokens import Batch
from modelyard_server.runtimes.runtime import Floats, Output
from modelyard_server.serving.head import Head, TensorInfo
from modelyard_server.serving.predictor import Predictor
from modelyard_server.tasks.task import PredictiveTask


class ClassHead(Head):
    """`label` and its `score`; `scores` has all classes, in the order of the model's id2label.

    Scores are as transformers' pipeline gives them: probabilities that add up to 1, or of each class by itself where
    the model has one class or classes that don't exclude each other.
    """

    output = Output("AutoModelForSequenceClassification", "logits", rank=2)
    switches = ("scores",)

    def __init__(self, package: Package) -> None:
        super().__init__(package)
        self.labels = read_labels(package.about.id2label)

    @property
    def shares(self) -> bool:
        """A model that reads a text's last token can't find it in a batch, unless it knows which tokens are padding.

        Some configurations name one that isn't in the vocabulary, with which nothing can be padded.
        """
        pad = getattr(self.package.about.get_text_config(), "pad_token_id", None)
        return isinstance(pad, int) and 0 <= pad < self.package.tokens.vocabulary

    def read(self, found: Floats, batch: Batch) -> Floats:
        """Logits as they are."""
        return found

    async def prove(self, predictor: Predictor) -> None:
        """Compares the logarithms of probabilities with the reference's, or logits where it has them."""
        reference = read_reference(self.package, Reference, TextClassification.name)
        if reference is None or not reference.rows:
            self._check_size(await predictor.probe(), 0)
            return
        check_tokens(self.package, reference)
        rows = [self.package.tokens.take(row.input_ids) for row in reference.rows]
        worst = 0.0
        for row, vector in zip(reference.rows, await predictor.answer_proof(rows), strict=True):
            self._check_size(vector, 1 + max(row.candidates))
            told = log_softmax(vector) if row.logits is None else vector
            wanted = np.asarray(row.log_probs if row.logits is None else row.logits)
            worst = max(worst, float(np.abs(told[row.candidates] - wanted).max()))
        check_difference(self.package, reference, worst)

    def _check_size(self, vector: Floats, least: int) -> None:
        told = f"the model tells {len(vector)} classes apart; its config.json names {len(self.labels)}"
        if vector.shape != (len(self.labels),):
            raise Failure("ModelInvalid", f"{told}: correct id2label, so that each class has its name")
        if len(vector) < least:
            raise Failure("ModelUnproven", f"{told}, and its reference.json asks for {least}")

    def list_outputs(self) -> Sequence[TensorInfo]:
        """label, score, scores."""
        return (
            TensorInfo("label", "BYTES"),
            TensorInfo("score", "FP32"),
            TensorInfo("scores", "FP32", (len(self.labels),), wanted=False),
        )

    def make_outputs(self, names: Sequence[str], vectors: Sequence[Floats]) -> list[list[str] | Floats]:
        """The class with the highest score, that score, and all."""
        scores = to_scores(np.stack(vectors), self.package.about.problem_type)
        best = scores.argmax(-1)
        made: dict[str, list[str] | Floats] = {
            "label": [self.labels[index] for index in best],
            "score": np.take_along_axis(scores, best[:, None], -1)[:, 0],
            "scores": scores.reshape(-1),
        }
        return [made[name] for name in names]


class TextClassification(PredictiveTask):
    """Models that transformers trains as AutoModelForSequenceClassification."""

    name = "text-classification"
    head = ClassHead


def read_labels(named: Mapping[int, Any]) -> list[str]:
    """The names of classes by their places in the head. Raises Failure (ModelInvalid) where one would be guessed."""
    if sorted(named) != list(range(len(named))):
        raise Failure(
            "ModelInvalid",
            f"id2label in its config.json names the classes {shorten(map(str, sorted(named)), 6)}; a head's classes are"
            f" numbered from 0 on without a gap: correct the keys, so that each class has the name it was trained with",
        )
    return [str(named[place]) for place in range(len(named))]


def exclude_each_other(kind: str | None, classes: int) -> bool:
    """Whether a text has exactly one of the classes, at a problem_type, so that probabilities add up to 1."""
    return classes > 1 and kind not in ("regression", "multi_label_classification")


def to_scores(logits: Floats, kind: str | None) -> Floats:
    """What transformers' pipeline makes of logits (rows, classes) at a problem_type."""
    if kind == "regression":
        return logits
    if not exclude_each_other(kind, logits.shape[-1]):
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    return np.exp(log_softmax(logits)).astype(np.float32)


def log_softmax(logits: Floats) -> Any:
    """Natural logarithms of probabilities, over the last dimension, in float64."""
    wide = logits.astype(np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))
