"""A run's first evaluation and first checkpoint, tried on a few rows before its first step.

What would fail after hours of training (a metric that nobody measures, a state that can't be saved, a language model
that sees its answer) fails while nothing is lost.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from modelyard_models.failure import boundary
from torch.utils.data import Subset

from modelyard_trainer.preflight.causality import check_causality
from modelyard_trainer.tasks import Task
from modelyard_trainer.train.evaluation import Splits
from modelyard_trainer.train.losses import read_logits
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.settings import Settings

_ROWS = 4  # of each process
_LARGEST = (
    1 << 30
)  # bytes of a checkpoint that is tried whole; of a larger one only what is beside the weights
_BYTES = 16  # of a parameter in a checkpoint: its weight, DeepSpeed's float32 one, two moments


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is tried, and on what. `vocabulary` counts the model's embeddings; `folder` is this attempt's."""

    task: Task
    settings: Settings
    splits: Splits
    ranks: Ranks
    vocabulary: int | None
    folder: Path

    def run(self, trainer: Any) -> None:
        """Leaves no trace in the run's state. To be called by all ranks. Raises Failure.

        ModelInvalid for a language model that isn't causal, else EvaluationFailed or CheckpointFailed.
        """
        if self.task.predicts_tokens:
            self._check_causality(trainer)
        if len(self.splits.validation):
            few = min(len(self.splits.validation), _ROWS * self.ranks.world_size)
            advice = "correct the field that it names; nothing was trained yet"
            with (
                boundary("EvaluationFailed", "evaluating a few rows failed before the first step", advice),
                trainer.unnoticed(),
            ):
                trainer.evaluate_as_due(Subset(self.splits.validation, range(few)))
        self._try_saving(trainer)

    def _check_causality(self, trainer: Any) -> None:
        def forward(ids: Any) -> Any:
            inputs = trainer._prepare_inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
            return read_logits(trainer.model(**inputs))

        training = trainer.model.training
        trainer.model.eval()
        with torch.no_grad():
            kind = trainer.model.config.model_type
            check_causality(forward, self.vocabulary, self.settings.precision, kind)
        trainer.model.train(training)

    def _try_saving(self, trainer: Any) -> None:
        target = self.folder / "rehearsal"
        sizes = (getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters())
        whole = sum(sizes) * _BYTES <= _LARGEST
        advice = "see the excerpt; nothing was trained yet"
        try:
            with (
                boundary("CheckpointFailed", "saving a checkpoint failed before the first step", advice),
                trainer.unnoticed(),
            ):
                trainer.save_aside(target, whole=whole)
            self.ranks.wait()
        finally:
            if self.ranks.leads:
                shutil.rmtree(target, ignore_errors=True)
