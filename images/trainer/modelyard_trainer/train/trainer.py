"""Hugging Face's Trainer with our schedules, checkpoints and ends."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import EvalLoopOutput

from modelyard_trainer.tasks import Task
from modelyard_trainer.train.losses import LossWindow, TrainingLoss, has_exact_loss, ignore_repeats
from modelyard_trainer.train.measurement import make_loader, measure
from modelyard_trainer.train.progress import ProgressReporter
from modelyard_trainer.train.ranks import Ranks
from modelyard_trainer.train.saving import Saver, Unsaved
from modelyard_trainer.train.schedules import Schedule


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
        ranks: Ranks,
        saver: Saver,
        reporter: ProgressReporter | None,
        make_schedule: Callable[[int, int], Schedule] | None,
        is_over: Callable[[], bool],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        smoothing = self.args.label_smoothing_factor
        if not task.predicts_tokens or smoothing or not has_exact_loss(self.model):
            # Other language models' own loss is as exact, and some models add to it.
            self.compute_loss_func = TrainingLoss(shifts=task.predicts_tokens, smoothing=smoothing)
        # What it counts. The Trainer goes by names of classes, and takes GPT2LMHeadModel's labels for unshifted.
        self._loss_shifts_labels = task.predicts_tokens
        self._window = LossWindow()
        self.add_callback(self._window)
        self._task = task
        self._ranks = ranks
        self._saver: Saver | Unsaved = saver
        self._reporter = reporter
        self._make_schedule = make_schedule
        self._is_over = is_over
        self.lr_scheduler: Any
        self.control: Any
        self.state: Any
        self.eval_dataset: Any
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

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and the number of items in those of all ranks."""
        batches = list(islice(epoch_iterator, num_batches))
        if batches and self._repeats_rows() and self.accelerator.gradient_state.end_of_dataloader:
            ranks = self._ranks
            ignore_repeats(batches[-1]["labels"], len(self.train_dataset), ranks.rank, ranks.world_size)
        items = self._get_num_items_in_batch(batches, device)
        if items is not None:
            self._window.begin(items)
        return batches, items

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Forward and backward of a micro-batch; its part of the step's mean loss, times the ranks."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._window.add(loss, num_items_in_batch, self._ranks.world_size)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs; `loss` is LossWindow's, where the Trainer's is a mean of steps' means."""
        if "loss" in logs:
            logs["loss"] = self._window.close(self._ranks)
        if "train_loss" in logs:
            logs["train_loss"] = self._window.mean_of_all()
        super().log(logs, start_time)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Loads a split, the validation split if none is given, so that every row counts once."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        batch = self.args.eval_batch_size
        return make_loader(dataset, batch, self._ranks, self.data_collator, self.args)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """The same for another split."""
        return self.get_eval_dataloader(test_dataset)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Every metric of the task, exact over all ranks' rows. Predictions aren't kept.

        The Trainer's own loop takes the mean of batches' means, whatever their sizes, and rows that are
        repeated to fill a batch for others.
        """

        def tell() -> None:
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)

        sums = self._task.make_sums()
        self.callback_handler.eval_dataloader = dataloader
        self.model.eval()
        if callable(getattr(self.optimizer, "eval", None)):
            self.optimizer.eval()  # schedule-free optimizers keep other weights for it
        measure(self.model, dataloader, sums, self._prepare_inputs, tell)
        values = sums.reduce(self._ranks)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in values.items()}
        return EvalLoopOutput(None, None, metrics, len(dataloader.dataset))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluates on the validation split. Random numbers of training are the same with or without it."""
        with self._pause("evaluating"):
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        chosen = self._task.select_metrics(metrics)
        self.measured = (self.state.global_step, chosen)
        self._saver.note(self.state.global_step, chosen)
        return metrics

    def measure(self, dataset: Any) -> dict[str, float]:
        """The task's metrics on any split; counts for nothing else."""
        with self._pause("evaluating"):
            output = self.predict(dataset, metric_key_prefix="eval")
        return self._task.select_metrics(output.metrics)

    def enter(self, state: str) -> None:
        """Reports another state."""
        if self._reporter is not None:
            self._reporter.enter(state)

    def catch_up(self) -> None:
        """Evaluates as if the step had just ended, and saves if that is the best so far."""
        self._evaluate(None, None)
        if self.control.should_save:
            self.control.should_save = False
            self._save_checkpoint(self.model_wrapped, None)

    @contextmanager
    def unnoticed(self) -> Iterator[None]:
        """What is done in the block leaves no trace: not in the state, the callbacks, or with the agent."""
        handler, reporter, saver = self.callback_handler, self._reporter, self._saver
        callbacks = handler.callbacks
        kept = [c for c in callbacks if isinstance(c, ExportableState)]  # the others only tell
        before = [(c, copy.deepcopy(c.state()["attributes"])) for c in kept]
        # In place: who called the callback that is trying has these objects in hand.
        told = [(thing, copy.deepcopy(vars(thing))) for thing in (self.state, self.control)]
        measured = self.measured
        scheduler = self.lr_scheduler if hasattr(self.lr_scheduler, "num_bad_epochs") else None
        learned = copy.deepcopy(scheduler.state_dict()) if scheduler is not None else None
        groups = scheduler.optimizer.param_groups if scheduler is not None else []
        rates = [group["lr"] for group in groups]
        handler.callbacks, self._reporter, self._saver = kept, None, Unsaved()
        try:
            yield
        finally:
            handler.callbacks, self._reporter, self._saver = callbacks, reporter, saver
            self.measured = measured
            for thing, fields in told:
                vars(thing).update(fields)
            for callback, attributes in before:
                for name, value in attributes.items():
                    setattr(callback, name, value)
            if scheduler is not None:
                scheduler.load_state_dict(learned)
                for group, rate in zip(groups, rates, strict=True):
                    group["lr"] = rate

    def evaluate_as_due(self, dataset: Any) -> None:
        """Evaluates as training does where it is due, but on `dataset`."""
        validation, self.eval_dataset = self.eval_dataset, dataset
        try:
            self._evaluate(None, None)
        finally:
            self.eval_dataset = validation

    def save_aside(self, folder: Path, *, whole: bool) -> None:
        """Writes a checkpoint, or what it has beside the weights, into another folder. By all ranks."""
        if not whole:
            folder.mkdir(parents=True, exist_ok=True)
            self._save_rng_state(str(folder))
            self.state.save_to_json(str(folder / f"trainer_state-{self._ranks.rank}.json"))
            return
        output, self.args.output_dir = self.args.output_dir, str(folder)
        try:
            super()._save_checkpoint(self.model_wrapped, None)
        finally:
            self.args.output_dir = output

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # The Trainer would look at the end of a step only, and so train a finished run for one step more.
        if self.state.global_step >= self.state.max_steps or self._is_over():
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _repeats_rows(self) -> bool:
        """Whether batches of an epoch's end are filled up with rows of its beginning."""
        balanced = self.args.train_sampling_strategy == "batch_rebalance"  # has batches of its own
        return self._ranks.world_size > 1 and not balanced and not self.args.dataloader_drop_last

    def _load_callback_state(self) -> None:
        # The Trainer would make the callbacks anew, from what a checkpoint can hold.
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                known = self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())
                for name, value in known["attributes"].items():
                    setattr(callback, name, value)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # Saving comes first: an evaluation takes long, and may fail. The checkpoint owes it until then.
        if self.control.should_save and self.control.should_evaluate:
            self.control.should_evaluate = False
            super()._maybe_log_save_evaluate(*args, **kwargs)
            self.control.should_evaluate = True
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self._saver.last_step == self.state.global_step:
            return  # saved before its evaluation, whose value the checkpoint has been given since
        self.enter("saving")
        self._window.gather(self._ranks)
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
