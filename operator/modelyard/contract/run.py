"""The run config: what the operator tells every pod of a job, as one JSON file."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from modelyard.contract.base import ContractModel, Versioned


class Identity(ContractModel):
    """The TrainingJob that the run belongs to."""

    namespace: str
    name: str
    uid: str
    labels: dict[str, str] = Field(
        default_factory=dict, description="modelyard.dev/project and /team, for lineage."
    )


class ModelInput(ContractModel):
    """The base model. `uri` or `config`."""

    uri: str | None = None
    revision: str | None = None
    config: dict[str, Any] | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    dropout: float | None = None


class TrainingInput(ContractModel):
    """Hyperparameters, resolved: nothing here is left to the pod's taste but the epochs' length in steps.

    `args` are further TrainingArguments in snake_case, already checked by name.
    """

    num_train_epochs: float | None
    max_steps: int | None
    global_batch_size: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    max_length: int
    learning_rate: float
    lr_scheduler_type: str
    warmup_steps: float
    optim: str
    weight_decay: float
    seed: int
    eval_steps: int | None
    args: dict[str, Any] = Field(default_factory=dict)


class CheckpointPolicy(ContractModel):
    """When to save and what to keep."""

    every_steps: int | None
    max_lost_seconds: int | None
    keep_last: int
    keep_best: int
    on_signal: bool
    resume: Literal["Auto", "Never"]


class GateInput(ContractModel):
    """The bound the model must meet; `patience` set means early stopping."""

    metric: str
    max: float | None = None
    min: float | None = None
    patience: int | None = None
    min_delta: float = 0.0


class RunConfig(Versioned):
    """Everything a pod needs to know, enough to repeat the run. No secrets.

    `data` is the TrainingJob's `spec.data` as modelyard.api.trainingjob.Data dumps it.
    `task`, `model` and `data` are unset only where the user's own command runs without them.
    """

    identity: Identity
    task: str | None
    model: ModelInput | None
    data: dict[str, Any] | None
    training: TrainingInput
    deepspeed: dict[str, Any] = Field(
        description="A DeepSpeed configuration; the trainer fills in batch sizes."
    )
    checkpoint: CheckpointPolicy
    gate: GateInput | None
    output_name: str
    num_nodes: int
    num_proc_per_node: int
    gpus_per_node: int = 0
    builtin: bool = Field(True, description="Whether our trainer trains, and not a program of the user's.")
