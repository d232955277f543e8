"""Everything a run's Trainer is told, resolved from the run config: the same for training and for the preflight."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.contract.run import RunConfig, TrainingInput
from modelyard_models.failure import Failure

from modelyard_trainer.tasks import Task
from modelyard_trainer.train.arguments import (
    collect_arguments,
    count_steps,
    make_arguments,
    resolve_eval_steps,
)
from modelyard_trainer.train.devices import Devices
from modelyard_trainer.train.precision import Precision, choose_precision
from modelyard_trainer.train.zero import fill_config


@dataclass(frozen=True, slots=True)
class Settings:
    """`values` are TrainingArguments' by name, DeepSpeed's configuration among them; `steps` the whole run's."""

    training: TrainingInput
    precision: Precision
    deepspeed: dict[str, Any]
    values: dict[str, Any]
    steps: int

    def make_arguments(self) -> Any:
        """The TrainingArguments, which also set up torch.distributed. Raises Failure (InvalidArgument)."""
        return make_arguments(self.values, self.training.args)


def resolve_settings(
    run: RunConfig,
    task: Task,
    devices: Devices,
    output: Path,
    *,
    train_rows: int,
    validation_rows: int,
    world_size: int,
) -> Settings:
    """Resolves what the run config leaves open. Raises Failure (InvalidArgument)."""
    assert run.model is not None  # noqa: S101 - callers have checked that there is one
    gate = run.gate
    if gate is not None:
        task.check_metric(gate.metric)
        if not validation_rows:
            raise Failure("InvalidArgument", "a gate needs data.split.validation above 0")
    steps = count_steps(run.training, train_rows, world_size)
    eval_steps = resolve_eval_steps(run.training, gate, steps) if validation_rows else None
    training = run.training.model_copy(update={"eval_steps": eval_steps})
    precision = choose_precision(run.model.dtype, run.deepspeed, training.args, devices)
    config = fill_config(run.deepspeed, training, precision, world_size)
    values = collect_arguments(training, gate, config, precision, devices, output, steps)
    return Settings(training, precision, config, values, steps)
