"""What is measured, compared with scikit-learn and with torch in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from modelyard_trainer.tasks import TASKS
from modelyard_trainer.train import losses
from modelyard_trainer.train.dataset import IGNORED
from modelyard_trainer.train.losses import (
    LossWindow,
    TrainingLoss,
    flatten_tokens,
    ignore_repeats,
    read_logits,
    sum_losses,
)
from modelyard_trainer.train.measurement import Rounds
from modelyard_trainer.train.metrics import ClassSums, TokenSums
from modelyard_trainer.train.ranks import Ranks
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from transformers.trainer_pt_utils import LabelSmoother

ALONE = Ranks(0, 1)


class Told(Ranks):
    """Two ranks, of which the other one's vector is known."""

    def __init__(self, other: Any, rank: int = 0) -> None:
        super().__init__(rank, 2)
        self.other = other

    def total(self, values: Any) -> Any:
        return values.double() + self.other


class Listening(Ranks):
    """Keeps the vector that a rank would send."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.heard: Any = None

    def total(self, values: Any) -> Any:
        self.heard = values.double()
        return self.heard


# Rows


@pytest.mark.parametrize("rows", [1, 2, 7, 16, 17, 33])
@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_each_row_counts_once_and_every_rank_has_as_many_batches(rows: int, batch: int, world: int) -> None:
    seen: list[int] = []
    lengths = set()
    for rank in range(world):
        rounds = Rounds(rows, batch, Ranks(rank, world))
        batches = list(rounds)
        lengths |= {len(batches), len(rounds)}
        assert all(batches), "a forward pass needs a row, if only one that doesn't count"
        for index, some in enumerate(batches):
            seen += some[: rounds.counted(index)]
    assert sorted(seen) == list(range(rows)) and len(lengths) == 1


# Classification


def draw(rows: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator) * 3
    labels = torch.randint(0, classes, (rows,), generator=generator)
    labels[::2] = logits.argmax(-1)[::2]  # every other row is right
    return logits, labels


def expect_classes(logits: Any, labels: Any) -> dict[str, float]:
    found = logits.argmax(-1).numpy()
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels.numpy(), found, average="macro", zero_division=0
    )
    chosen = logits.double().log_softmax(-1)[torch.arange(len(labels)), labels]
    return {
        "loss": -float(chosen.mean()),
        "accuracy": float(accuracy_score(labels.numpy(), found)),
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
    }


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (23, 2), (40, 7), (9, 30)])
def test_a_classifiers_metrics_are_scikit_learns(rows: int, classes: int) -> None:
    # 9 rows of 30 classes: most are neither found nor wanted, some only one of both.
    logits, labels = draw(rows, classes)
    sums = ClassSums()
    for first in range(0, rows, 4):
        sums.add(logits[first : first + 4], labels[first : first + 4])
    assert sums.reduce(ALONE) == pytest.approx(expect_classes(logits, labels), rel=1e-6, abs=1e-7)


def test_a_classifiers_metrics_are_those_of_all_ranks_rows() -> None:
    logits, labels = draw(23, 3)
    other = Listening()
    there = ClassSums()
    there.add(logits[20:], labels[20:])
    there.reduce(other)
    here = ClassSums()
    here.add(logits[:20], labels[:20])
    here.add(logits[:0], labels[:0])  # a pass that counts nothing
    assert here.reduce(Told(other.heard)) == pytest.approx(expect_classes(logits, labels), rel=1e-6)


def test_a_16_bit_models_loss_is_not_rounded_to_16_bits() -> None:
    logits, labels = draw(64, 2)
    sums = ClassSums()
    sums.add(logits.bfloat16(), labels)
    measured = sums.reduce(ALONE)["loss"]
    assert measured == pytest.approx(expect_classes(logits.bfloat16().float(), labels)["loss"], rel=1e-6)
    assert measured != float(torch.tensor(measured).bfloat16())


# Generation


def draw_tokens(rows: int = 5, tokens: int = 9, vocabulary: int = 13) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, vocabulary, (rows, tokens), generator=generator)
    for row in range(rows):
        labels[row, tokens - row * 2 :] = IGNORED  # the last one is of one token, and predicts nothing
    return torch.randn(rows, tokens, vocabulary, generator=generator) * 3, labels


def expect_tokens(logits: Any, labels: Any) -> list[float]:
    """The loss of each predicted token, row by row, in float64."""
    return [
        -float(row[place - 1, wanted[place]])
        for row, wanted in zip(logits.double().log_softmax(-1), labels, strict=True)
        for place in range(1, len(wanted))
        if wanted[place] != IGNORED
    ]


@pytest.mark.parametrize("chunk", [1, 50, 1 << 24])
def test_a_language_models_loss_is_the_mean_over_predicted_tokens(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_CHUNK", chunk)
    logits, labels = draw_tokens()
    expected = float(np.mean(expect_tokens(logits, labels)))
    sums = TokenSums()
    sums.add(logits[:2], labels[:2])
    sums.add(logits[2:], labels[2:])
    assert sums.reduce(ALONE) == pytest.approx({"loss": expected, "perplexity": math.exp(expected)}, rel=1e-6)


def test_logits_are_made_float32_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = torch.nn.functional.cross_entropy

    def watch(logits: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(logits.numel())
        return original(logits, *args, **kwargs)

    monkeypatch.setattr(losses, "cross_entropy", watch)
    monkeypatch.setattr(losses, "_CHUNK", 100)
    sum_losses(torch.zeros(33, 20, dtype=torch.bfloat16), torch.zeros(33, dtype=torch.int64))
    assert max(seen) <= 100 and sum(seen) == 660


def test_perplexity_has_no_upper_end_and_nothing_predicted_is_no_number() -> None:
    logits = torch.tensor([[[0.0, 1e4], [0.0, 0.0]]])
    sums = TokenSums()
    sums.add(logits, torch.tensor([[0, 0]]))
    assert sums.reduce(ALONE) == {"loss": 1e4, "perplexity": math.inf}
    nothing = TokenSums()
    nothing.add(logits, torch.full((1, 2), IGNORED))
    assert all(math.isnan(value) for value in nothing.reduce(ALONE).values())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_all_metrics_that_a_task_names_are_measured(task: Any) -> None:
    sums = task.make_sums()
    sums.add(*(draw(4, 2) if task.labelled else draw_tokens()))
    assert set(sums.reduce(ALONE)) == set(task.metrics)


# The training loss


def test_rows_that_fill_up_the_last_batch_are_ignored() -> None:
    # 10 rows on 3 ranks by 2: the last round holds rows 6 to 9, and two of the beginning.
    kept = []
    for rank in range(3):
        labels = torch.ones(2, dtype=torch.int64)
        ignore_repeats(labels, 10, rank, 3)
        kept.append(labels.tolist())
    assert kept == [[1, 1], [1, 1], [IGNORED, IGNORED]]
    odd = torch.ones(4, 5, dtype=torch.int64)
    ignore_repeats(odd, 11, 1, 2)  # the last of two batches of 4 is short of one row after 3 whole ones
    assert odd[:, 0].tolist() == [IGNORED] * 4
    whole = torch.ones(2, dtype=torch.int64)
    ignore_repeats(whole, 12, 2, 3)
    assert whole.tolist() == [1, 1]


def test_the_gradient_is_that_of_the_mean_over_all_rows_of_unequal_batches() -> None:
    logits, labels = draw(7, 3)
    whole = logits.clone().requires_grad_()
    torch.nn.functional.cross_entropy(whole, labels).backward()
    parts = logits.clone().requires_grad_()
    loss = TrainingLoss(shifts=False)
    for first, last in ((0, 4), (4, 7)):
        loss({"logits": parts[first:last]}, labels[first:last], torch.tensor(7)).backward()
    assert torch.allclose(parts.grad, whole.grad, atol=1e-7)


def test_a_batch_of_repeated_rows_has_no_gradient() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = TrainingLoss(shifts=False)((logits,), torch.full((2,), IGNORED), torch.tensor(5))
    loss.backward()
    assert loss.item() == 0.0 and logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize("shifts", [False, True])
def test_label_smoothing_is_transformers(shifts: bool) -> None:
    logits, labels = draw_tokens() if shifts else draw(7, 3)
    items = (labels[:, 1:] if shifts else labels).ne(IGNORED).sum()
    theirs = LabelSmoother(0.1)({"logits": logits}, labels, shift_labels=shifts, num_items_in_batch=items)
    ours = TrainingLoss(shifts, 0.1)({"logits": logits}, labels, items)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


def test_the_logged_loss_is_the_mean_over_the_items_of_all_steps() -> None:
    window = LossWindow()
    for values in ([1.0, 2.0, 3.0], [7.0]):
        items = torch.tensor(len(values))
        window.begin(items)
        for value in values:  # a micro-batch each, as its part of the step's mean
            window.add(torch.tensor(value) / items, items, 1)
    assert window.close(ALONE) == pytest.approx(13 / 4)
    assert math.isnan(window.close(ALONE)), "a window is empty after it was logged"
    assert window.mean_of_all() == pytest.approx(13 / 4)


def test_a_checkpoint_keeps_what_is_not_logged_yet() -> None:
    first, second = LossWindow(), LossWindow()
    first.begin(torch.tensor(4))
    first.add(torch.tensor(2.0), torch.tensor(4), 2)  # this rank's half, times two ranks
    first.gather(Told(torch.tensor([8.0])))
    for name, value in first.state()["attributes"].items():
        setattr(second, name, value)
    second.begin(torch.tensor(4))
    second.add(torch.tensor(1.0), torch.tensor(4), 1)
    assert second.close(ALONE) == pytest.approx((4 + 8 + 4) / 8)


def test_a_models_logits_are_found_whatever_it_returns() -> None:
    logits, labels = draw_tokens()
    flat, following = flatten_tokens(logits, labels)
    assert read_logits((logits, None)) is read_logits({"logits": logits, "loss": None}) is logits
    assert flat.shape[0] == following.shape[0] and int(following[8]) == IGNORED
