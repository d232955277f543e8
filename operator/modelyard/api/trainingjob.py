"""TrainingJob: what a user writes. Each description is what `kubectl explain` prints.

The parts live in modules of their own and are importable from here as well.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from modelyard.api.base import ApiModel, Rule
from modelyard.api.data import (
    Columns,
    Data,
    DataSource,
    Deduplicate,
    Filter,
    Normalize,
    PrepareStep,
    Require,
    Split,
)
from modelyard.api.durability import Backoff, Checkpoint, CheckpointEvery, Claim, FailurePolicy, Storage
from modelyard.api.expressions import has
from modelyard.api.hyperparameters import (
    SCHEDULERS,
    DeepSpeed,
    EarlyStopping,
    Gate,
    ModelSource,
    Output,
    Training,
)
from modelyard.api.tasks import LABELLED, TASKS, Task
from modelyard.api.trainer import EnvVar, Resources, SecretKeyRef, Trainer
from modelyard.api.values import ObjectName

_LABELLED = " or ".join(LABELLED)
_HAS_LABELS = " || ".join(f"self.task == '{task}'" for task in LABELLED)
_OWN_COMMAND = f"({has('trainer.command')} && self.trainer.command.size() > 0)"

__all__ = [
    "SCHEDULERS",
    "Backoff",
    "Checkpoint",
    "CheckpointEvery",
    "Claim",
    "Columns",
    "Data",
    "DataSource",
    "Deduplicate",
    "DeepSpeed",
    "EarlyStopping",
    "EnvVar",
    "FailurePolicy",
    "Filter",
    "Gate",
    "ModelSource",
    "Normalize",
    "Output",
    "PrepareStep",
    "Require",
    "Resources",
    "SecretKeyRef",
    "Split",
    "Storage",
    "Task",
    "Trainer",
    "Training",
    "TrainingJobSpec",
]


class TrainingJobSpec(ApiModel):
    """What to train, on what, how, where, and when it is good enough."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *(
            Rule(
                rule=f"has(self.{field}) || {_OWN_COMMAND}",
                message=f"{field} is required, unless trainer.command runs your own code",
                field_path=f".{field}",
                reason="FieldValueRequired",
            )
            for field in ("task", "model", "data")
        ),
        Rule(
            rule=f"!{_OWN_COMMAND} || "
            "(has(self.task) == has(self.model) && has(self.model) == has(self.data))",
            message="with trainer.command, set all of task, model and data, or none of them",
        ),
        Rule(
            rule="!has(self.data) || !has(self.data.split) || !has(self.data.split.stratifyBy) || "
            f"(has(self.task) && {_HAS_LABELS})",
            message=f"data.split.stratifyBy is for task {_LABELLED} only, as other data has no "
            "classes: remove it",
            field_path=".data.split.stratifyBy",
        ),
        *(
            Rule(
                rule=f"!({has(f'data.require.{field}')}) || (has(self.task) && {_HAS_LABELS})",
                message=f"data.require.{field} is for task {_LABELLED} only, as other data {why}: remove it",
                field_path=f".data.require.{field}",
            )
            for field, why in (
                ("noContradictions", "has no labels"),
                ("maxTruncatedFraction", "is packed into blocks and never cut"),
            )
        ),
        *(
            Rule(
                rule=f"!has(self.gate) || !has(self.gate.metric) || !has(self.task) || self.task != "
                f"'{task}' || "
                f"{_OWN_COMMAND} || self.gate.metric in {list(metrics)}",
                message=f"gate.metric must be one of {', '.join(metrics)} for task {task}",
                field_path=".gate.metric",
            )
            for task, metrics in ((name, facts.gate_metrics) for name, facts in TASKS.items())
        ),
        *(
            Rule(
                rule=f"!({has(field)}) || !has(self.data) || !has(self.data.split) || "
                "!has(self.data.split.validation) || self.data.split.validation > 0.0",
                message=f"{field} needs a validation split: set data.split.validation above 0, or "
                f"remove {field}",
                field_path=f".{field}",
            )
            for field in ("gate", "training.evalSteps")
        ),
        Rule(
            rule="!has(self.training) || !has(self.training.lrSchedulerType) || "
            "self.training.lrSchedulerType != 'reduce_lr_on_plateau' || !has(self.data) || "
            "!has(self.data.split) || !has(self.data.split.validation) || self.data.split.validation > 0.0",
            message="training.lrSchedulerType reduce_lr_on_plateau needs a validation split: set "
            "data.split.validation above 0, or use another schedule",
            field_path=".training.lrSchedulerType",
        ),
    )

    profile: ObjectName = Field(
        "default", description="Profile of the platform team: images, resources, storage, placement."
    )
    task: Task | None = Field(
        None, description="What the model does. Required unless trainer.command is set."
    )
    model: ModelSource | None = Field(None, description="Required unless trainer.command is set.")
    data: Data | None = Field(None, description="Required unless trainer.command is set.")
    training: Training = Field(default_factory=Training, description="Hyperparameters.")
    deepspeed: DeepSpeed = Field(default_factory=DeepSpeed)
    trainer: Trainer = Field(default_factory=Trainer)
    storage: Storage | None = Field(None, description="Default: the profile's.")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    gate: Gate | None = Field(None, description="Without it every finished model passes.")
    failure_policy: FailurePolicy = Field(default_factory=FailurePolicy)
    suspend: bool = Field(False, description="true saves a checkpoint, frees the pods and waits.")
    active_deadline_seconds: int | None = Field(
        None, ge=1, description="Longest time in seconds that pods may be active, summed over all attempts."
    )
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, description="Deletes the job so many seconds after it has finished."
    )
    output: Output = Field(default_factory=Output)

    @property
    def builtin(self) -> bool:
        """Whether the built-in trainer runs (and not the user's own command)."""
        return not self.trainer.command
