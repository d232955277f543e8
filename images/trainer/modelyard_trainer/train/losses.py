"""Cross entropies in float32 and their sums in float64, whatever type the model computes in."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from modelyard_trainer.train.dataset import IGNORED
from modelyard_trainer.train.ranks import Ranks

_CHUNK = 1 << 24  # logits that are float32 at a time: 64 MiB, and as much again for their logarithms


def sum_losses(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Sum (float64) and number (int64) of the cross entropies of logits (n, classes) and labels (n,).

    IGNORED labels count nothing. Both are scalars on the logits' device: nothing waits for it.
    """
    total = torch.zeros((), dtype=torch.float64, device=logits.device)
    size = max(1, _CHUNK // logits.shape[-1])
    for part, wanted in zip(logits.split(size), labels.split(size), strict=True):
        losses = cross_entropy(part.float(), wanted, ignore_index=IGNORED, reduction="none")
        total += losses.sum(dtype=torch.float64)
    return total, (labels != IGNORED).sum()


def flatten_tokens(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Logits (rows, tokens, vocabulary) as (n, vocabulary), and beside each the token that follows.

    The last position of a row predicts nothing: its label is IGNORED.
    """
    following = pad(labels[:, 1:], (0, 1), value=IGNORED)
    return logits.flatten(0, 1), following.flatten()


class TrainingLoss:
    """The loss of a micro-batch as its part of the whole batch's mean; a `compute_loss_func` of the Trainer.

    Sum of the cross entropies, smoothed by `smoothing`, over the number of items (rows; with `shifts`,
    predicted tokens) of all micro-batches of all ranks. In float32.
    """

    def __init__(self, shifts: bool, smoothing: float = 0.0) -> None:
        self._shifts = shifts
        self._smoothing = smoothing

    def __call__(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = read_logits(outputs)
        if self._shifts:
            logits, labels = flatten_tokens(logits, labels)
        loss = cross_entropy(
            logits.float(),
            labels,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self._smoothing,
        )
        return loss / num_items_in_batch


def has_exact_loss(model: Any) -> bool:
    """Whether a language model's own loss is the mean over the tokens that follow, as many as it is told of.

    The decoders of BART and its kin hold each place against its own token, which it sees: they learn to copy
    (https://github.com/huggingface/transformers/issues/30105). They have a loss function of their own where all
    others call transformers'.
    """
    return "self.loss_function(" in inspect.getsource(type(model).forward)


def read_logits(outputs: Any) -> Any:
    """A model's logits, whether it gives names or a tuple."""
    return outputs["logits"] if isinstance(outputs, dict) else outputs[0]


def ignore_repeats(labels: Any, rows: int, rank: int, world_size: int) -> None:
    """Takes the labels, in place, from rows that are there twice: in the last batch of an epoch.

    The ranks' last batches are of equal size; where the `rows` of the split are too few for that, rows of
    the epoch's beginning are repeated at their end, rank after rank.
    """
    size = len(labels)
    left = rows % (size * world_size) or size * world_size
    labels[max(0, left - rank * size) :] = IGNORED


class LossWindow(TrainerCallback, ExportableState):  # type: ignore[misc]
    """What the logged training loss is the mean of.

    `loss` is the sum of the losses of all items trained on since the last log, over their number: rows of a
    classifier; predicted tokens of a language model. All ranks' items, each once: rows that fill up an
    epoch's last batch count nothing, here as in the gradient. It is the loss that is minimised, and so with
    label smoothing where the run has it, and with what the model itself adds to it (the balance of experts).
    Summed in float64. A checkpoint keeps the sums, so that a resumed run logs what an undisturbed one does.
    """

    def __init__(self) -> None:
        self.gathered = 0.0  # sum of losses of all ranks, at the last checkpoint
        self.items: Any = 0.0  # of all ranks
        self._own: Any = 0.0  # this rank's sum of losses since; a tensor of its device after a step
        self._logged = (0.0, 0.0)  # sum and items of all closed windows

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this; after `gather`."""
        return {"args": {}, "attributes": {"gathered": self.gathered, "items": self.items}}

    def begin(self, items: Any) -> None:
        """A step begins on so many items of all ranks."""
        self.items = self.items + items.double()

    def add(self, loss: Any, items: Any, world_size: int) -> None:
        """Adds a micro-batch: `loss` is its part of the step's mean, times the number of ranks."""
        self._own = self._own + loss.detach().double() * items / world_size

    def gather(self, ranks: Ranks) -> None:
        """Adds all ranks' sums up. To be called by all of them. Waits for the device."""
        self.gathered += float(ranks.total(torch.as_tensor([self._own], dtype=torch.float64)))
        self._own, self.items = 0.0, float(self.items)

    def close(self, ranks: Ranks) -> float:
        """The mean, and a new window. To be called by all ranks. Waits for the device."""
        self.gather(ranks)
        mean = _divide(self.gathered, self.items)
        self._logged = (self._logged[0] + self.gathered, self._logged[1] + self.items)
        self.gathered = self.items = 0.0
        return mean

    def mean_of_all(self) -> float:
        """The mean over all that this process has logged."""
        return _divide(*self._logged)


def _divide(total: float, items: float) -> float:
    return total / items if items else math.nan
