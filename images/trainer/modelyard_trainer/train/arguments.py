"""TrainingArguments out of the run config."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from modelyard.contract.run import GateInput, TrainingInput
from modelyard_models.failure import Failure, nearest

from modelyard_trainer.train.devices import Devices
from modelyard_trainer.train.precision import Precision
from modelyard_trainer.train.schedule_options import complete_options
from modelyard_trainer.train.schedules import OWN_SCHEDULES

EVALUATIONS = 10  # over a run that needs some and names no eval_steps; the operator's number too
FOLLOWS_EVALUATIONS = "reduce_lr_on_plateau"
_LOGS = 50  # lines over a run, so that each costs nothing
_MOST_STEPS = 10  # between two of them


def make_arguments(values: dict[str, Any], args: dict[str, Any]) -> Any:
    """The TrainingArguments, which also set up torch.distributed.

    Raises Failure (InvalidArgument) with what transformers said, and the user's `args` beside it.
    """
    from transformers import TrainingArguments

    try:
        return TrainingArguments(**values)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        given = ", ".join(f"{k}: {v!r}" for k, v in args.items()) or "none"
        message = f"transformers refused the training arguments (args: {given}): {error}"
        raise Failure("InvalidArgument", message) from error


def collect_arguments(
    training: TrainingInput,
    gate: GateInput | None,
    deepspeed: dict[str, Any],
    precision: Precision,
    devices: Devices,
    output: Path,
    max_steps: int,
) -> dict[str, Any]:
    """Names and values: ours, the run's `args` on top, then what only we may set.

    Raises Failure (InvalidArgument) for unknown names and for ours. `eval_on_start` is left out: the
    baseline is measured on both splits, by a callback.
    """
    from transformers import TrainingArguments

    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    for name in training.args:
        if name not in known:
            near = nearest(name, known)
            raise Failure(
                "InvalidArgument",
                f"training.args.{name} is no argument of transformers' TrainingArguments"
                + (f"; did you mean {near}?" if near else ""),
            )
    fixed = _fixed(training, gate, deepspeed, precision, devices, output)
    clash = next((k for k in training.args if k in fixed and training.args[k] != fixed[k]), None)
    if clash:
        raise Failure("InvalidArgument", f"training.args.{clash} is set by Modelyard itself; remove it")
    given = {k: v for k, v in training.args.items() if k != "eval_on_start"}
    options = {"lr_scheduler_kwargs": complete_options(training, gate, max_steps)}
    return _defaults(training, max_steps) | given | options | fixed


def count_steps(training: TrainingInput, rows: int, world_size: int) -> int:
    """Optimizer steps of the whole run, as the Trainer counts them."""
    if training.max_steps is not None:
        return training.max_steps
    per_pass = training.per_device_train_batch_size * world_size
    batches = -(-rows // per_pass)  # the last, smaller one counts
    updates = max(1, -(-batches // training.gradient_accumulation_steps))
    return max(1, -int(-(training.num_train_epochs or 0.0) * updates // 1))


def resolve_eval_steps(training: TrainingInput, gate: GateInput | None, max_steps: int) -> int | None:
    """Steps between evaluations; None: at the end only."""
    stops_early = gate is not None and gate.patience is not None
    if training.eval_steps is None and (stops_early or training.lr_scheduler_type == FOLLOWS_EVALUATIONS):
        return max(1, max_steps // EVALUATIONS)
    return training.eval_steps


def _defaults(training: TrainingInput, max_steps: int) -> dict[str, Any]:
    return {
        "num_train_epochs": training.num_train_epochs or 1.0,
        "per_device_train_batch_size": training.per_device_train_batch_size,
        "per_device_eval_batch_size": training.per_device_train_batch_size * 2,  # no gradients to keep
        "learning_rate": training.learning_rate,
        "warmup_steps": training.warmup_steps,
        "optim": training.optim,
        "weight_decay": training.weight_decay,
        "logging_steps": max(1, min(_MOST_STEPS, max_steps // _LOGS)),
        "logging_first_step": True,
        "log_level": "warning",
    }


def _fixed(
    training: TrainingInput,
    gate: GateInput | None,
    deepspeed: dict[str, Any],
    precision: Precision,
    devices: Devices,
    output: Path,
) -> dict[str, Any]:
    own_schedule = training.lr_scheduler_type in OWN_SCHEDULES
    return {
        "output_dir": str(output),
        "max_steps": training.max_steps or -1,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "lr_scheduler_type": "constant" if own_schedule else training.lr_scheduler_type,
        "seed": training.seed,
        "data_seed": training.seed,
        "bf16": precision == "bfloat16",
        "fp16": precision == "float16",
        "deepspeed": deepspeed,
        "use_cpu": not devices.gpu,
        "ddp_backend": None if devices.gpu else "gloo",
        "dataloader_pin_memory": devices.gpu,
        # Saving is the callback's business: it knows of stop requests and of time.
        "save_strategy": "no",
        # So is evaluating; but reduce_lr_on_plateau and greedy want to see that somebody evaluates.
        "eval_strategy": "steps" if training.eval_steps else "no",
        "eval_steps": training.eval_steps,
        "metric_for_best_model": gate.metric if gate else "eval_loss",
        "greater_is_better": bool(gate and gate.max is None),
        # The loss is the mean over the whole batch, and not of the ranks' means.
        "average_tokens_across_devices": True,
        "ignore_data_skip": False,
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
    }
