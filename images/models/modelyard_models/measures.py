"""The metrics of a task, from the sums over the rows of a split."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def measure_classes(loss: float, counts: Any) -> dict[str, float]:
    """The metrics of a classifier from its summed loss and counts (right, found, wanted) per class.

    The macro means are scikit-learn's: over the classes that were found or wanted at all; a ratio without
    denominator is 0.
    """
    right, found, wanted = counts[:, (counts[1] + counts[2]) > 0]
    rows = wanted.sum()
    return {
        "loss": loss / float(rows),
        "accuracy": float(right.sum() / rows),
        "f1": float(np.mean(_divide(2 * right, found + wanted))),
        "precision": float(np.mean(_divide(right, found))),
        "recall": float(np.mean(_divide(right, wanted))),
    }


def measure_tokens(loss: float, tokens: float) -> dict[str, float]:
    """The mean loss of a token, and its exponential, the perplexity."""
    mean = loss / tokens if tokens else math.nan
    return {"loss": mean, "perplexity": _exp(mean)}


def _exp(loss: float) -> float:
    return math.exp(loss) if not loss >= 700 else math.inf  # exp overflows at 709


def _divide(above: Any, below: Any) -> Any:
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)
