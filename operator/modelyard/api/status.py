"""TrainingJob's status: what the operator writes back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelyard.api.base import ApiModel
from modelyard.api.bounded import Bounded, Count
from modelyard.api.conditions import Condition

Phase = Literal[
    "Pending",
    "Queued",
    "Preparing",
    "Starting",
    "Training",
    "Evaluating",
    "Recovering",
    "Suspending",
    "Suspended",
    "Stopping",
    "Succeeded",
    "Failed",
]
Cause = Literal["Finished", "UserError", "Infrastructure", "Preempted", "Suspended", "DeadlineExceeded"]


def _check_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return text


Time = Annotated[
    str, Field(max_length=64, json_schema_extra={"format": "date-time"}), AfterValidator(_check_time)
]
Percent = Annotated[int, Field(ge=0, le=100)]
ExitCode = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class Progress(Bounded):
    """How far the training is. Written at most every ten seconds."""

    step: Count = Field(description="Optimizer steps done.")
    max_steps: Count | None = Field(None, description="Optimizer steps to do.")
    epoch: float | None = Field(None, description="Passes over the training split done.")
    percent: Percent | None = Field(None, description="step of maxSteps, rounded down.")
    step_seconds: float | None = Field(None, description="Seconds per step, lately.")
    samples_per_second: float | None = Field(None, description="Rows per second over all processes, lately.")
    tokens_per_second: float | None = Field(None, description="Tokens per second over all processes, lately.")
    estimated_completion_time: Time | None = Field(None, description="When training should end.")
    metrics: dict[str, float] = Field(
        default_factory=dict, max_length=32, description="Last value of each metric."
    )


class Nodes(ApiModel):
    """Pods of the running attempt."""

    desired: Count = Field(description="Pods that should train.")
    ready: Count = Field(description="Pods that run.")


class Removed(Bounded):
    """Rows that one step removed for one reason."""

    step: str = Field(max_length=128, description="Step, as 1.deduplicate.exact.")
    reason: str = Field(max_length=128, description="Why.")
    rows: Count = Field(description="How many.")


class DataWarning(Bounded):
    """What looks wrong in the data or the base model and stops nothing."""

    reason: str = Field(max_length=128, description="One word what.")
    count: Count | None = Field(
        None, description="How many rows, lines or columns, where it counts something."
    )
    message: str = Field("", max_length=1024, description="What was found and what to do.")


class DataStatus(Bounded):
    """The prepared data."""

    digest: str = Field(max_length=128, description="Content address of the prepared data.")
    rows_in: Count = Field(description="Rows read.")
    rows_out: Count = Field(description="Rows left.")
    removed: list[Removed] = Field(
        default_factory=list, max_length=64, description="What was removed and why."
    )
    splits: dict[str, Count] = Field(default_factory=dict, max_length=3, description="Rows per split.")
    warnings: list[DataWarning] = Field(
        default_factory=list, max_length=32, description="What looks suspicious; samples are in the report."
    )
    report_uri: str | None = Field(None, max_length=2048, description="The full report.")
    cache_hit: bool = Field(False, description="Whether an earlier job had prepared the same.")
    model_digest: str | None = Field(None, max_length=128, description="Content address of the base model.")
    model_revision: str | None = Field(
        None, max_length=256, description="Commit that a hf:// revision was resolved to."
    )


class CheckpointStatus(Bounded):
    """One checkpoint."""

    step: Count = Field(description="Optimizer steps it holds.")
    uri: str = Field(max_length=2048, description="Where it lies.")
    time: Time | None = Field(None, description="When it was saved.")
    verified: bool = Field(False, description="Whether all its files were read back and hashed.")
    world_size: Count | None = Field(None, description="Processes that saved it.")
    save_seconds: float | None = Field(None, description="How long saving took.")
    metric: str | None = Field(None, max_length=64, description="Metric it was chosen by.")
    value: float | None = Field(None, description="Value of that metric.")


class Checkpoints(Bounded):
    """The checkpoints that count."""

    last: CheckpointStatus | None = Field(None, description="The newest verified one.")
    best: CheckpointStatus | None = Field(None, description="The best by the gate's metric.")


class Failure(Bounded):
    """The first failure of an attempt."""

    reason: str = Field(max_length=128, description="One word why.")
    message: str = Field("", max_length=1024, description="What happened and what to do.")
    node: str | None = Field(None, max_length=253, description="Node of the failed pod.")
    pod: str | None = Field(None, max_length=253, description="The failed pod.")
    rank: Count | None = Field(None, description="The failed rank.")
    exit_code: ExitCode | None = Field(None, description="Its exit code.")
    excerpt: str | None = Field(None, max_length=2048, description="Last lines of its log.")


class Attempt(Bounded):
    """One set of pods, from start to end."""

    index: Count = Field(description="Counts from 1.")
    cause: Cause | None = Field(None, description="Why it ended. Unset while it runs.")
    start_time: Time | None = Field(None, description="When its pods were asked for.")
    end_time: Time | None = Field(None, description="When it ended.")
    active_seconds: Count | None = Field(None, description="Seconds its pods were active.")
    from_step: Count | None = Field(None, description="Step it went on from.")
    to_step: Count | None = Field(None, description="Last step it did.")
    lost_steps: Count | None = Field(None, description="Steps done but not saved when it ended.")
    failure: Failure | None = Field(None, description="Its failure.")


class Counters(Bounded):
    """How often what went wrong, over the whole job."""

    user_failures: Count = Field(0, description="Failures of the training code.")
    infra_failures: Count = Field(0, description="Lost nodes, evictions and the like.")
    preemptions: Count = Field(0, description="Pods asked to stop that saved first.")
    process_restarts: Count = Field(0, description="Restarts of processes inside running pods.")


class GateStatus(Bounded):
    """What the gate saw."""

    metric: str = Field(max_length=64, description="The metric.")
    value: float | None = Field(
        None, description="Its value on the validation split. Unset where it was not a number."
    )
    threshold: float | None = Field(None, description="The bound.")
    passed: bool = Field(description="Whether the value is within the bound.")


class Evaluation(Bounded):
    """Metrics of one model on the two splits kept out of training."""

    validation: dict[str, float] = Field(
        default_factory=dict, max_length=32, description="On the validation split."
    )
    test: dict[str, float] = Field(default_factory=dict, max_length=32, description="On the test split.")


class ModelStatus(Bounded):
    """The trained model."""

    uri: str = Field(max_length=2048, description="Its folder, a plain Hugging Face one.")
    digest: str = Field(max_length=128, description="Content address of its files.")
    card_uri: str | None = Field(None, max_length=2048, description="Its model card.")
    evaluation: Evaluation | None = Field(None, description="Metrics of the trained model.")
    baseline: Evaluation | None = Field(
        None, description="Metrics before training, if training.args.eval_on_start is set."
    )


Amount = Annotated[float, Field(ge=0)]


class Cost(Bounded):
    """What the job's pods have set aside for it, and what that costs by the profile's present prices."""

    hours: dict[str, Amount] = Field(
        default_factory=dict, max_length=16, description="By resource: core hours, GiB hours, device hours."
    )
    ended_hours: dict[str, Amount] = Field(
        default_factory=dict, max_length=16, description="Those of them that belong to pods that have ended."
    )
    currency: str | None = Field(None, max_length=3, description="Of the amounts.")
    amount: Amount | None = Field(None, description="What the hours cost.")
    forecast: Amount | None = Field(
        None, description="What they will have cost if training ends at its estimated completion time."
    )


class Goodput(Bounded):
    """Where the time of the attempts went, from the first one's start."""

    ratio: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Productive part of the seconds that the job was not queued."
    )
    seconds: dict[str, Amount] = Field(
        default_factory=dict,
        max_length=8,
        description="By state: queued (until rank 0's pod has a node), starting (until its first step), productive"
        " (training for new steps), evaluating, saving, exporting (model, proof, end), recovering (from an"
        " interruption until the steps that it lost are done again).",
    )
    ended_seconds: dict[str, Amount] = Field(
        default_factory=dict,
        max_length=8,
        description="Those of them that belong to attempts that have ended.",
    )


class TrainingJobStatus(ApiModel):
    """Everything the operator knows about the job."""

    observed_generation: int = Field(-1, description="Generation of the spec that this status speaks of.")
    phase: Phase | None = Field(None, description="A summary for people; derived from the conditions.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="What holds and why.",
        json_schema_extra={"list_map_keys": ["type"]},
    )
    start_time: Time | None = Field(None, description="When the first pod was asked for.")
    completion_time: Time | None = Field(None, description="When the job ended.")
    retry_time: Time | None = Field(None, description="When the next attempt starts.")
    progress: Progress | None = Field(None, description="How far the training is.")
    nodes: Nodes | None = Field(None, description="Pods of the running attempt.")
    data: DataStatus | None = Field(None, description="The prepared data.")
    checkpoints: Checkpoints | None = Field(None, description="The checkpoints that count.")
    attempts: list[Attempt] = Field(
        default_factory=list, max_length=20, description="The latest attempts, newest last.",
        json_schema_extra={"list_map_keys": ["index"]},
    )  # fmt: skip
    attempt: Count = Field(0, description="Index of the current or last attempt.")
    prepare_attempt: Count = Field(0, description="Index of the current or last preparation.")
    spec_digest: str | None = Field(
        None,
        max_length=64,
        description="Content address of what can't change, as the job was started with it.",
    )
    active_seconds: Count = Field(0, description="Seconds that pods of ended attempts were active.")
    counters: Counters | None = Field(None, description="How often what went wrong.")
    goodput: Goodput | None = Field(None, description="Where the time went.")
    cost: Cost | None = Field(None, description="What the job has used, and what it costs.")
    gate: GateStatus | None = Field(None, description="What the gate saw.")
    model: ModelStatus | None = Field(None, description="The trained model.")
