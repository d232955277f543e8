"""What pods tell back: progress (polled), and results (termination message and result.json)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelyard.contract.base import ContractModel, Versioned

Outcome = Literal["succeeded", "gateFailed", "preempted", "failed"]
State = Literal["starting", "training", "evaluating", "saving", "exporting", "done"]


class Checkpoint(ContractModel):
    """A verified checkpoint. `path` is below the storage root."""

    step: int
    path: str
    time: float = Field(description="Unix seconds.")
    world_size: int | None = None
    save_seconds: float | None = None
    metric: str | None = None
    value: float | None = None


class ProgressReport(Versioned):
    """Answer of `GET /v1/progress` of an agent. Rank 0's pod knows the training; the others know themselves."""

    attempt: int = 0
    state: State = "starting"
    step: int = 0
    max_steps: int | None = None
    epoch: float | None = None
    step_seconds: float | None = None
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    resumed_from: int | None = Field(None, description="Step of the checkpoint the attempt went on from.")
    last_checkpoint: Checkpoint | None = None
    best_checkpoint: Checkpoint | None = None
    process_restarts: int = 0
    seconds: dict[str, float] = Field(
        default_factory=dict,
        description="Time since the agent's start, by state: those of State, `repeating` (training for steps that were"
        " done before, and lost), `restarting` (from the end of processes to the first step of those in their place)."
        " Empty while the program has told nothing.",
    )
    updated: float = Field(0.0, description="Unix seconds of the last report from the training process.")


class FailureReport(ContractModel):
    """Why a process or pod failed. `reason` is PascalCase; `message` says what to do."""

    reason: str
    message: str = ""
    rank: int | None = None
    exit_code: int | None = None
    excerpt: str | None = None


class GateReport(ContractModel):
    """What the gate saw. `value` is unset where the metric was not a number."""

    metric: str
    value: float | None
    threshold: float
    passed: bool


class ModelReport(ContractModel):
    """The exported model. Paths are below the storage root."""

    path: str
    digest: str


class TrainResult(Versioned):
    """Result of one train pod. Node 0's is the attempt's; the others say how their pod ended."""

    stage: Literal["train"] = "train"
    outcome: Outcome
    attempt: int
    node: int = 0
    step: int = 0
    max_steps: int | None = None
    resumed_from: int | None = None
    lost_steps: int = 0
    process_restarts: int = 0
    seconds: dict[str, float] = Field(default_factory=dict, description="As in ProgressReport.")
    metrics: dict[str, float] = Field(
        default_factory=dict,
        description="Of the trained model on the validation split; without one, the last reported.",
    )
    test_metrics: dict[str, float] = Field(default_factory=dict)
    baseline: dict[str, float] = Field(
        default_factory=dict, description="Validation metrics before training."
    )
    baseline_test: dict[str, float] = Field(default_factory=dict)
    gate: GateReport | None = None
    last_checkpoint: Checkpoint | None = None
    best_checkpoint: Checkpoint | None = None
    model: ModelReport | None = None
    failure: FailureReport | None = None


class RemovedRows(ContractModel):
    """Rows that one prepare step removed for one reason. `step` is as 1.deduplicate.exact."""

    step: str
    reason: str
    rows: int


class DataWarning(ContractModel):
    """What looks wrong and stops nothing. `reason` is PascalCase; `message` is one sentence with what to do."""

    reason: str
    count: int | None = Field(None, description="How many rows, lines or columns, where it counts something.")
    message: str = ""


class PrepareResult(Versioned):
    """Result of the prepare pod."""

    stage: Literal["prepare"] = "prepare"
    outcome: Literal["succeeded", "failed"]
    digest: str | None = None
    model_digest: str | None = None
    model_revision: str | None = None
    cache_hit: bool = False
    rows_in: int = 0
    rows_out: int = 0
    removed: list[RemovedRows] = Field(default_factory=list)
    splits: dict[str, int] = Field(default_factory=dict)
    warnings: list[DataWarning] = Field(default_factory=list)
    failure: FailureReport | None = None
