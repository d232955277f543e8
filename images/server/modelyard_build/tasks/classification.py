"""text-classification: the metrics of a classifier, and whether two name the same class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from modelyard.contract.model import REFERENCE_CANDIDATES, Reference, ReferenceRow
from modelyard_models.measures import measure_classes
from modelyard_server.package.folder import Package
from modelyard_server.serving.predictor import Predictor
from modelyard_server.tasks.classification import ClassHead, exclude_each_other, log_softmax

from modelyard_build.rows import Rows
from modelyard_build.tasks.predictive import PredictiveTask
from modelyard_build.tasks.task import Answers, Picked, find_dtype, find_tolerance

_SAME_VALUE = 0.05  # of the values' standard deviation: nearer than that, regressions agree
_LEAST = 0.2  # logit: those of a new head are small, and their noise is not smaller in proportion


class TextClassification(PredictiveTask):
    """An answer is the class with the highest logit; where classes don't exclude each other, all those above 0."""

    name = "text-classification"
    output = ClassHead.output

    def fits(self, architecture: str) -> bool:
        """By transformers' way of naming."""
        return architecture.endswith("ForSequenceClassification")

    def gather(self, model: Predictor, vectors: Sequence[Any]) -> Answers:
        """`logits` (rows, classes), and of the model its `classes` and its problem_type as `kind`."""
        assert isinstance(model.head, ClassHead)  # noqa: S101 - as the server's task makes it
        kind = model.package.about.problem_type or ""
        return {"logits": np.stack(vectors), "classes": np.array(model.head.labels), "kind": np.array(kind)}

    def compare(self, answers: Answers, base: Answers, rows: Rows) -> tuple[dict[str, float], float]:
        """The metrics need the data's labels, and a head that knows them."""
        agreement = float(np.mean(_agree(answers["logits"], base["logits"], str(base["kind"]))))
        labels = _place(rows, [str(name) for name in answers["classes"]])
        if labels is None:
            return {}, agreement
        return measure(answers["logits"], labels[: len(answers["logits"])]), agreement

    def describe(self, rows: Sequence[Picked], vectors: Any, package: Package, split: str) -> Reference:
        """The likeliest classes of each row."""
        logarithms, dtype = log_softmax(vectors), find_dtype(package.config.variant, package.about)
        apart = not exclude_each_other(package.about.problem_type, vectors.shape[-1])
        best = np.argsort(-logarithms, axis=-1, kind="stable")[:, :REFERENCE_CANDIDATES]
        return Reference.model_validate({
            "task": self.name,
            "split": split,
            "dtype": dtype,
            "tolerance": find_tolerance(dtype, max(_LEAST, float(np.abs(vectors).max()))),
            "rows": [
                ReferenceRow(
                    text=text,
                    input_ids=ids,
                    candidates=places.tolist(),
                    log_probs=found[places].tolist(),
                    logits=vector[places].tolist() if apart else None,
                )
                for (text, ids), places, found, vector in zip(rows, best, logarithms, vectors, strict=True)
            ],
        })  # fmt: skip


def measure(logits: Any, labels: Any) -> dict[str, float]:
    """The metrics of logits (rows, classes) beside the right classes (rows,), as training measures them."""
    losses = -np.take_along_axis(log_softmax(logits), labels[:, None], -1)
    found, size = logits.argmax(-1), logits.shape[-1]
    counts = [np.bincount(some, minlength=size) for some in (labels[found == labels], found, labels)]
    return measure_classes(float(losses.sum()), np.stack(counts).astype(np.float64))


def _agree(found: Any, wanted: Any, kind: str) -> Any:
    if kind == "regression":
        return (np.abs(found - wanted) <= _SAME_VALUE * wanted.std(0)).all(-1)
    if not exclude_each_other(kind, wanted.shape[-1]):
        return ((found > 0) == (wanted > 0)).all(-1)
    return found.argmax(-1) == wanted.argmax(-1)


def _place(rows: Rows, classes: list[str]) -> Any | None:
    """Each row's place in the head; None without labels, or where the head has other classes than the data."""
    if rows.labels is None or rows.names is None or not set(rows.names) <= set(classes):
        return None
    places = np.array([classes.index(name) for name in rows.names])
    return places[np.array(rows.labels)]
