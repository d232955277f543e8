"""What is measured on a split: sums over rows or tokens, and the metrics made of them."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from modelyard_models.measures import measure_classes, measure_tokens

from modelyard_trainer.train.losses import flatten_tokens, sum_losses
from modelyard_trainer.train.ranks import Ranks


class Sums(Protocol):
    """Sums over the rows that one rank has seen. Nothing is kept of a row itself."""

    def add(self, logits: Any, labels: Any) -> None:
        """Adds rows (none is allowed). Doesn't wait for the device."""

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """The metrics over all ranks' rows, the same on each, without prefix. All ranks take part."""


class ClassSums:
    """Of a classifier: the loss, and per class how often it was right, found and wanted."""

    def __init__(self) -> None:
        self._loss: Any = 0.0
        self._counts: Any = None  # int64 (3, classes): right, found, wanted

    def add(self, logits: Any, labels: Any) -> None:
        """Adds rows: logits (rows, classes), labels (rows,)."""
        loss, _ = sum_losses(logits, labels)
        found = logits.argmax(dim=-1)
        one = torch.ones_like(labels)
        if self._counts is None:
            self._counts = torch.zeros(3, logits.shape[-1], dtype=torch.int64, device=logits.device)
        self._loss = self._loss + loss
        self._counts[0].index_add_(0, labels, one * (found == labels))
        self._counts[1].index_add_(0, found, one)
        self._counts[2].index_add_(0, labels, one)

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """Loss and accuracy over the rows; precision, recall and F1 as means over the classes (macro)."""
        total = ranks.total(torch.cat([self._loss.reshape(1), self._counts.flatten().double()])).numpy()
        return measure_classes(float(total[0]), total[1:].reshape(3, -1))


class TokenSums:
    """Of a language model: the loss of each token that follows another in its row, and their number."""

    def __init__(self) -> None:
        self._loss: Any = 0.0
        self._tokens: Any = 0

    def add(self, logits: Any, labels: Any) -> None:
        """Adds rows: logits (rows, tokens, vocabulary), labels (rows, tokens) not yet shifted."""
        loss, tokens = sum_losses(*flatten_tokens(logits, labels))
        self._loss, self._tokens = self._loss + loss, self._tokens + tokens

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """The mean loss of a token, and its exponential, the perplexity."""
        loss, tokens = ranks.total(torch.stack([self._loss, self._tokens.double()])).tolist()
        return measure_tokens(loss, tokens)
