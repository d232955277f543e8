"""What the trained model says to a few rows of the data, before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelyard.contract.model import (
    REFERENCE_CANDIDATES,
    REFERENCE_ROWS,
    REFERENCE_TOKENS,
    Reference,
    ReferenceRow,
)
from modelyard_models.failure import Failure
from modelyard_models.tokenizer import load_tokenizer

from modelyard_trainer.tasks import Task
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.verify.answers import ask

_LOOKED_AT = 256  # rows, from which the short ones are taken
_SPECIAL = 8  # tokens that a tokenizer may put around a text
_LARGE_BYTES = 4 << 30  # of weights, from which on few rows are enough
_FEW = 2
_LEAST = 0.2  # logit: those of a new head are small, and their noise is not smaller in proportion
# Share of the largest logit that rounding explains between two machines. Weights are compared bit
# by bit besides, so that this need not be narrow: it is for what shapes, configuration and tokenizer do.
# float32 has room for TF32 on GPUs. bfloat16 has 8 bits: two machines that sum in another order differ by some
# of its steps (2^-8 of a logit) after the many layers of a model.
_TOLERANCES = {"float32": 0.01, "float16": 0.02, "bfloat16": 0.05}

Row = tuple[str | None, list[int]]


def take_rows(dataset: Any, tokenizer: Any, count: int = REFERENCE_ROWS) -> list[Row]:
    """Texts and their token ids, always the same of a dataset: short rows, spread over it, no two alike.

    A row has the ids that the tokenizer gives for its text, which is decoded from the prepared row. Where no
    text leads to ids, the prepared row's own are taken. Long rows are cut.
    """
    looked_at = [dataset[i]["input_ids"].tolist() for i in _spread(len(dataset), _LOOKED_AT)]
    short = [ids for ids in looked_at if len(ids) <= REFERENCE_TOKENS]
    taken = short if len(short) >= count else sorted(looked_at, key=len)[:count]
    rows = {tuple(ids): (text, ids) for text, ids in (_read(ids, tokenizer) for ids in taken)}
    kept = list(rows.values())
    return [kept[i] for i in _spread(len(kept), count)]


def no_numbers(what: str) -> Failure:
    """The failure of a model that training has broken."""
    return Failure(
        "ModelUnproven",
        f"the trained model is of no use: {what}; nothing was published. Lower training.learningRate, raise "
        "warmupSteps, or train in float32 (model.dtype)",
    )


def count_rows(weights: int) -> int:
    """Rows that a model of so many bytes answers: a CPU takes minutes for one row of the largest."""
    return REFERENCE_ROWS if weights <= _LARGE_BYTES else _FEW


def ask_model(trainer: Any, task: Task, rows: list[Row], split: str) -> Reference:
    """The trained model's answers. For all ranks, with the same rows.

    Under ZeRO-3 each layer is brought together from all ranks while it computes. Raises Failure (ModelUnproven)
    where the answers are no numbers.
    """
    import torch

    engine = trainer.model_wrapped
    engine.eval()
    answered, largest = [], _LEAST
    for text, ids in rows:
        logits = task.pick_answer(ask(engine, ids, trainer.args.device))
        if not bool(torch.isfinite(logits).all()):
            raise no_numbers("its answers to rows of the data are no numbers")
        largest = max(largest, float(logits.abs().max()))
        best = logits.log_softmax(-1).topk(min(REFERENCE_CANDIDATES, len(logits)))
        answered.append(
            ReferenceRow(
                text=text, input_ids=ids, candidates=best.indices.tolist(), log_probs=best.values.tolist()
            )
        )
    dtype = _name_dtype(trainer)
    return Reference(
        task=task.name,
        split="validation" if split == "validation" else "train",
        dtype=dtype,
        tolerance=largest * _TOLERANCES.get(dtype, max(_TOLERANCES.values())),
        rows=answered,
    )


def make_reference(trainer: Any, ranks: Ranks, task: Task, splits: Any, hub: Path, weights: int) -> Reference:
    """The reference of the trained model, from validation rows, or training rows where there are none.

    For all ranks. Raises Failure (ModelUnproven).
    """
    split = "validation" if len(splits.validation) else "train"
    rows: list[Row] = []
    if ranks.leads:
        # The one that prepared the data, as it came: what the Trainer holds is what is to be proved.
        tokenizer = load_tokenizer(hub)
        rows = take_rows(getattr(splits, split), tokenizer, count_rows(weights))
    return ask_model(trainer, task, ranks.share(rows), split)


def _name_dtype(trainer: Any) -> str:
    """What the engine computes in: under autocast something else than the weights are in."""
    engine = trainer.model_wrapped
    autocast = getattr(engine, "torch_autocast_enabled", bool)()
    return str(engine.torch_autocast_dtype() if autocast else trainer.model.dtype).removeprefix("torch.")


def _read(ids: list[int], tokenizer: Any) -> Row:
    if len(ids) > REFERENCE_TOKENS:
        # Some models classify at the last token, so it stays.
        cut, own = ids[: REFERENCE_TOKENS - _SPECIAL], [*ids[: REFERENCE_TOKENS - 1], ids[-1]]
    else:
        cut, own = ids, ids
    text = tokenizer.decode(cut, skip_special_tokens=True)
    again = tokenizer(text)["input_ids"] if text else []
    return (text, again) if 0 < len(again) <= REFERENCE_TOKENS else (None, own)


def _spread(size: int, count: int) -> list[int]:
    """`count` indices below `size`, evenly, with the first and the last; all if there are no more."""
    if size <= count:
        return list(range(size))
    return [round(i * (size - 1) / (count - 1)) for i in range(count)]
