"""Builds what training builds, short of weights: arguments, Trainer, optimizer, schedule, DeepSpeed's configuration.

What transformers, accelerate, torch and DeepSpeed refuse is then known while no accelerator waits.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from modelyard.contract.run import RunConfig
from modelyard_models.failure import Failure, boundary

from modelyard_trainer.tasks import Task
from modelyard_trainer.train.devices import Devices
from modelyard_trainer.train.schedules import own_schedule
from modelyard_trainer.train.settings import Settings, resolve_settings

_ROWS = 1000  # stands for the splits' sizes, which aren't known yet
_ADVICE = "correct the field of spec.training or spec.deepspeed that it names"


def check_settings(run: RunConfig, task: Task, empty: Any, folder: Path, devices: Devices) -> None:
    """Refuses settings that no Trainer can start with. `empty` is the model on the meta device.

    To be called in a process of its own: it sets up torch.distributed. Raises Failure (InvalidArgument).
    """
    with boundary("InvalidArgument", "the settings can't be resolved", _ADVICE):
        validation = _ROWS if _has_validation(run) else 0
        settings = resolve_settings(
            run, task, devices, folder, train_rows=_ROWS, validation_rows=validation, world_size=1
        )
        args = _on_this_machine(settings).make_arguments()
    with boundary("InvalidArgument", "the Trainer can't be made of these settings", _ADVICE):
        trainer = _make_trainer(settings, args, empty)
        _change_model(args, empty)
    with boundary("InvalidArgument", f"training.optim {settings.training.optim} can't be made", _ADVICE):
        trainer.create_optimizer()
    with boundary(
        "InvalidArgument", f"training.lrSchedulerType {settings.training.lr_scheduler_type}", _ADVICE
    ):
        _walk_schedule(trainer, settings)
    with boundary(
        "InvalidArgument", "DeepSpeed's configuration contradicts the training's settings", _ADVICE
    ):
        config = args.hf_deepspeed_config
        config.trainer_config_finalize(args, empty, settings.steps)
    with boundary("InvalidArgument", "DeepSpeed refuses its configuration", _ADVICE):
        from deepspeed.runtime.config import DeepSpeedConfig

        DeepSpeedConfig(copy.deepcopy(config.config))


def _has_validation(run: RunConfig) -> bool:
    split = (run.data or {}).get("split") or {}
    return float(split.get("validation", 0.1)) > 0


def _on_this_machine(settings: Settings) -> Settings:
    """For a pod without an accelerator: float16 is refused here that the train pods' GPUs have."""
    if not settings.values["fp16"]:
        return settings
    config = copy.deepcopy(settings.deepspeed)
    config["fp16"] = {"enabled": False}
    values = {**settings.values, "fp16": False, "deepspeed": config}
    return Settings(settings.training, settings.precision, config, values, settings.steps)


def _make_trainer(settings: Settings, args: Any, empty: Any) -> Any:
    from transformers import Trainer

    rows = [{"input_ids": [0, 0], "labels": 0}]
    return Trainer(
        model=empty,
        args=args,
        train_dataset=rows,
        eval_dataset=rows if settings.values["eval_steps"] else None,
    )


def _change_model(args: Any, empty: Any) -> None:
    """What Trainer.train() does to the model before its first step."""
    if args.use_liger_kernel:
        from transformers.integrations.liger import apply_liger_kernel

        apply_liger_kernel(empty, args.liger_kernel_config)
    if args.activation_checkpointing:
        empty.activation_checkpointing_enable()


def _walk_schedule(trainer: Any, settings: Settings) -> None:
    """Makes the schedule and asks it for the first and the last steps."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.training.learning_rate)
    own = own_schedule(settings.training.lr_scheduler_type, dict(trainer.args.lr_scheduler_kwargs or {}))
    if own is not None:
        warmup = trainer.args.get_warmup_steps(settings.steps)
        factor = own(settings.steps, warmup)
        rates = [factor(step) for step in (0, 1, settings.steps - 1, settings.steps)]
    else:
        schedule = trainer.create_scheduler(settings.steps, optimizer)
        plateau = isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
        rates = []
        for _ in range(min(settings.steps, 3)):
            optimizer.step()
            schedule.step(*([1.0] if plateau else []))
            rates.append(float(optimizer.param_groups[0]["lr"]))
    if any(isinstance(rate, complex) or not rate >= 0 for rate in rates):
        raise Failure(
            "InvalidArgument",
            f"training.lrSchedulerType {settings.training.lr_scheduler_type} gives learning rates below 0 or no"
            " numbers with these lr_scheduler_kwargs; correct them",
        )
