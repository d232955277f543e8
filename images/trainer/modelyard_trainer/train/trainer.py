"""Hugging Face's Trainer with our schedules, checkpoints and ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import Trainer

from modelyard_trainer.train.metrics import select_metrics
from modelyard_trainer.train.progress import ProgressReporter
from modelyard_trainer.train.saving import Saver
from modelyard_trainer.train.schedules import Schedule
from modelyard_trainer.train.tasks import Task


class RunTrainer(Trainer):  # type: ignore[misc]
    """The Trainer of one run.

    `make_schedule` gives our own schedule from (steps, warm-up steps), or is None. `is_over` says that a
    resumed run has nothing left to train. `measured` has the metrics of the last evaluation on the
    validation split, by step.
    """

    def __init__(
        self,
        *args: Any,
        task: Task,
        saver: Saver,
        reporter: ProgressReporter | None,
        make_schedule: Callable[[int, int], Schedule] | None,
        is_over: Callable[[], bool],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._task = task
        self._saver = saver
        self._reporter = reporter
        self._make_schedule = make_schedule
        self._is_over = is_over
        self.lr_scheduler: Any
        self.measured: tuple[int, dict[str, float]] | None = None

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Ours if the run names one of ours, else transformers'."""
        if self._make_schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        warmup = self.args.get_warmup_steps(num_training_steps)
        schedule = self._make_schedule(num_training_steps, warmup)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, schedule)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluates on the validation split. Random numbers of training are the same with or without it."""
        with self._pause("evaluating"):
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        chosen = select_metrics(self._task, metrics)
        self.measured = (self.state.global_step, chosen)
        self._saver.note(self.state.global_step, chosen)
        return metrics

    def measure(self, dataset: Any) -> dict[str, float]:
        """The task's metrics on any split; counts for nothing else."""
        with self._pause("evaluating"):
            output = self.predict(dataset, metric_key_prefix="eval")
        return select_metrics(self._task, output.metrics)

    def enter(self, state: str) -> None:
        """Reports another state."""
        if self._reporter is not None:
            self._reporter.enter(state)

    def save_now(self) -> None:
        """Saves a checkpoint of the current step."""
        self._save_checkpoint(self.model_wrapped, None)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The Trainer would look at the end of a step only, and so train a finished run for one step more.
        if self.state.global_step >= self.state.max_steps or self._is_over():
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.enter("saving")
        self._saver.save(
            self.state.global_step, lambda: super(RunTrainer, self)._save_checkpoint(model, trial)
        )

    @contextmanager
    def _pause(self, state: str) -> Iterator[None]:
        self.enter(state)
        python, array = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(enabled=True):
            yield
        random.setstate(python)
        np.random.set_state(array)
