"""Watches the gate's metric: the best so far is saved, and without improvement training stops early."""

from __future__ import annotations

import math
from typing import Any

from modelyard.contract.run import GateInput
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from modelyard_trainer.tasks import Task
from modelyard_trainer.train.gate import improves


class Improvement(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Counts evaluations without improvement. Its state goes into checkpoints: a resumed run counts on."""

    def __init__(self, gate: GateInput, task: Task, keeps_best: bool) -> None:
        self._gate = gate
        self._task = task
        self._keeps_best = keeps_best
        self.best: float | None = None  # for saving: any improvement
        self.mark: float | None = None  # for stopping: improvements of at least min_delta
        self.misses = 0
        self.stopped = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of this."""
        names = ("best", "mark", "misses", "stopped")
        return {"args": {}, "attributes": {name: getattr(self, name) for name in names}}

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Takes an evaluation in."""
        value = self._task.select_metrics(metrics or {}).get(self._gate.metric, math.nan)
        if improves(self._gate, value, self.best):
            self.best = value
            control.should_save = control.should_save or self._keeps_best
        if improves(self._gate, value, self.mark, self._gate.min_delta):
            self.mark, self.misses = value, 0
        else:
            self.misses += 1
        if self._gate.patience is not None and self.misses >= self._gate.patience:
            self.stopped = True
            control.should_training_stop = control.should_save = True
