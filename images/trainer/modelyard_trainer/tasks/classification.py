"""text-classification: one of several classes for a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelyard_trainer.prepare.classes import tell_coverage
from modelyard_trainer.prepare.cleaned import Cleaned
from modelyard_trainer.prepare.shards import EndTokens, ShardWriter, cut_parts
from modelyard_trainer.prepare.split import SPLITS
from modelyard_trainer.prepare.tokenizer import Tokenizer
from modelyard_trainer.prepare.warnings import SAMPLES
from modelyard_trainer.tasks.task import Task

if TYPE_CHECKING:
    from modelyard_trainer.train.metrics import Sums


class TextClassification(Task):
    """Rows are texts with a label: `input_ids` cut at maxLength, and `labels`."""

    name = "text-classification"
    auto_class = "AutoModelForSequenceClassification"
    noun = "classifier"
    families = "bert, roberta, modernbert or qwen3"
    call = 'model("a text", truncation=True)'  # a longer text is cut at its end
    frames = True

    def write_splits(
        self, folder: Path, cleaned: Cleaned, parts: dict[str, Any], tokenizer: Tokenizer, max_length: int
    ) -> dict[str, dict[str, Any]]:
        """One row per text."""
        cut: list[int] = []
        splits = {s: _write_split(folder / s, cleaned, parts[s], tokenizer, max_length, cut) for s in SPLITS}
        tell_coverage(
            cleaned.names,
            {s: np.asarray(list(splits[s]["labels"].values())) for s in SPLITS},
            cleaned.suspicions,
        )
        _tell_cuts(cleaned, sum(about["truncated"] for about in splits.values()), max_length, cut)
        return splits

    def adapt(self, config: Any) -> bool:
        """Classes exclude each other."""
        if hasattr(config, "problem_type"):
            config.problem_type = "single_label_classification"
        return False

    def make_sums(self) -> Sums:
        """Loss, accuracy, and the macro means over the classes."""
        from modelyard_trainer.train.metrics import ClassSums

        return ClassSums()

    def pick_answer(self, logits: Any) -> Any:
        """Those of the classes."""
        return logits[0]


def _write_split(
    folder: Path, cleaned: Cleaned, rows: Any, tokenizer: Tokenizer, max_length: int, samples: list[int]
) -> dict[str, Any]:
    """Its part of the report; `samples` gets the first rows that were cut."""
    writer, cut = ShardWriter(folder, labelled=True), 0
    ends = EndTokens(tokenizer.eos_id)
    for part in cut_parts(rows):
        examples, longer = tokenizer.encode(cleaned.spool.texts(part), max_length)
        writer.write(examples, cleaned.labels[part].tolist())
        ends.see(examples, part)
        cut += len(longer)
        samples += [int(part[i]) for i in longer[: max(0, SAMPLES - len(samples))]]
    writer.close()
    counts = np.bincount(cleaned.labels[rows], minlength=len(cleaned.names)).tolist()
    by_name = dict(zip(cleaned.names, counts, strict=True))
    about = {"rows": len(rows), "truncated": cut, "labels": by_name, **writer.describe()}
    return about | ({"endTokens": ends.describe(cleaned.spool)} if ends.most is not None else {})


def _tell_cuts(cleaned: Cleaned, total: int, longest: int, samples: list[int]) -> None:
    if not total:
        return
    spool, verb = cleaned.spool, "was" if total == 1 else "were"
    cleaned.suspicions.add(
        "TruncatedRows",
        f"{total} of {len(spool)} rows ({total / len(spool):.1%}) {verb} longer than training.maxLength "
        f"({longest} tokens) and cut; raise it, or remove long rows with filter.maxTokens",
        total,
        [spool.describe(row, labelled=True) for row in samples],
    )
