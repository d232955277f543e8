"""What is measured on a split, apart from the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from modelyard_trainer.train.tasks import Task


def reduce_logits(logits: Any, labels: Any) -> Any:
    """Classes instead of logits, so that evaluation gathers one number a row."""
    first = logits[0] if isinstance(logits, tuple) else logits
    return first.argmax(dim=-1)


def measure_classes(prediction: Any) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 as the mean over the classes (macro), from an EvalPrediction."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    found, wanted = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    precision, recall, f1, _ = precision_recall_fscore_support(
        wanted, found, average="macro", zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(wanted, found)),
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
    }


def select_metrics(task: Task, measured: dict[str, Any], prefix: str = "eval") -> dict[str, float]:
    """The task's metrics out of the Trainer's, named eval_*; perplexity is made of the loss."""
    values = {name.removeprefix(f"{prefix}_"): value for name, value in measured.items()}
    if "perplexity" in task.metrics and "loss" in values:
        loss = float(values["loss"])
        values["perplexity"] = math.exp(loss) if loss < 700 else math.inf  # exp overflows at 709
    return {f"eval_{name}": float(values[name]) for name in task.metrics if name in values}
