"""ModelDeployment's status: what the operator writes back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from modelyard.api.base import ApiModel
from modelyard.api.bounded import Bounded, Count
from modelyard.api.conditions import Condition
from modelyard.api.status import Time

RevisionState = Literal["Starting", "Serving", "Draining", "Failed", "Retired"]
StorageChoice = Literal["Spec", "Job", "Profile", "Nobody"]
Share = Annotated[float, Field(ge=0, le=1)]


class RevisionStatus(Bounded):
    """One revision: a model in one variant, on one kind of server."""

    name: str = Field(max_length=63, description="Its Deployment and its Service.")
    digest: str = Field(max_length=128, description="Content address of its model.")
    variant: str | None = Field(None, max_length=32, description="bf16, int8, or none: as it was trained.")
    replicas: Count = Field(0, description="Servers asked for.")
    ready_replicas: Count = Field(0, description="Servers that answer.")
    weight: Annotated[int, Field(ge=0, le=100)] = Field(
        0,
        description="Percent of the requests that it gets. Two of 100 share them, while they pass to the new one.",
    )
    state: RevisionState = Field(description="Where it stands.")
    reason: str | None = Field(None, max_length=128, description="One word why it is not ready.")
    start_time: Time | None = Field(None, description="When it was made.")
    drain_time: Time | None = Field(None, description="When its requests went to another.")
    end_time: Time | None = Field(None, description="When it was taken away.")


class ServedModelStatus(Bounded):
    """The model of the latest build."""

    uri: str = Field(max_length=2048, description="Where it lies.")
    digest: str | None = Field(None, max_length=128, description="Content address of its files.")
    revision: str | None = Field(
        None, max_length=256, description="Commit that a hf:// revision was resolved to."
    )
    job: str | None = Field(None, max_length=63, description="The TrainingJob that it came from.")
    dataset: str | None = Field(None, max_length=2048, description="That job's prepared data.")
    task: str | None = Field(None, max_length=64, description="What it does.")
    stated_task: str | None = Field(None, max_length=64, description="What that job says that it does.")
    max_length: Count | None = Field(None, description="Tokens that it takes.")


class VariantStatus(Bounded):
    """One variant of the model as the build measured it, in a pod of the server's size."""

    name: str = Field(max_length=32, description="none, bf16 or int8.")
    bytes: Count = Field(description="Of its files.")
    load_seconds: float | None = Field(None, description="From a new process to the first answer.")
    latency_milliseconds: float | None = Field(None, description="Median of one request alone.")
    requests_per_second: float | None = Field(None, description="At the knee: where more at once only wait.")
    concurrency: float | None = Field(None, description="Requests in flight at the knee.")
    metrics: dict[str, float] = Field(
        default_factory=dict, max_length=32, description="Of the task, on the same rows for all variants."
    )
    agreement: Share | None = Field(
        None, description="Share of rows with the answer of the model as trained."
    )
    passed: bool | None = Field(None, description="Whether it passed the gate.")
    reason: str | None = Field(None, max_length=1024, description="Why it did not, or could not be made.")


class BuildStatus(Bounded):
    """The latest build, as long as it is under way or has failed."""

    digest: str = Field(max_length=64, description="Content address of what it was told.")
    attempt: Count = Field(description="Index of the current or last try.")
    retry_time: Time | None = Field(None, description="When it is tried again.")
    reason: str | None = Field(None, max_length=128, description="One word why the last try failed.")
    message: str | None = Field(None, max_length=1024, description="What happened and what to do.")
    variants: list[VariantStatus] = Field(
        default_factory=list, max_length=8, description="What the last try measured before it failed."
    )
    failed: bool = Field(
        False,
        description="Whether another try would fail, too, unless something is changed; then it is long until it.",
    )
    deaths: Count = Field(0, description="Tries in succession that died of themselves.")


class CompressionStatus(Bounded):
    """What the build made and measured."""

    digest: str = Field(max_length=64, description="Content address of what the build was told.")
    folder: str = Field(max_length=2048, description="Of the variant that is served, below the storage root.")
    reference: str | None = Field(
        None, max_length=2048, description="The answers that its servers must give, below the storage root."
    )
    runtime: str = Field(max_length=32, description="What computes it: torch or onnx.")
    chosen: str = Field(max_length=32, description="The variant that is served.")
    variants: list[VariantStatus] = Field(
        default_factory=list, max_length=8, description="All that were made."
    )


class ScalingStatus(Bounded):
    """How many servers, and why."""

    desired: Count = Field(description="Servers that the load asks for, within the bounds.")
    reason: str | None = Field(None, max_length=128, description="One word why.")
    queued: float | None = Field(None, description="Requests that wait, mean of a minute.")
    in_flight: float | None = Field(None, description="Requests that are computed, mean of a minute.")
    last_scale_time: Time | None = Field(None, description="When the number last changed.")
    state: dict[str, Any] | None = Field(
        None, max_length=8, description="What the next decision must know of earlier ones."
    )


class ModelDeploymentStatus(ApiModel):
    """What is true now. Conditions say whether and why; the rest are numbers and names."""

    observed_generation: Annotated[int, Field(ge=-1)] = Field(
        -1, description="Generation of the spec it speaks of."
    )
    url: str | None = Field(None, max_length=512, description="Where requests go, inside the cluster.")
    conditions: list[Condition] = Field(
        default_factory=list, max_length=32, description="kstatus' and our own.",
        json_schema_extra={"list_map_keys": ["type"]},
    )  # fmt: skip
    model: ServedModelStatus | None = Field(None, description="The model that the spec asks for.")
    storage: str | None = Field(None, max_length=2048, description="Where the served model is kept.")
    storage_choice: StorageChoice | None = Field(
        None,
        description="Who said so: the spec, the model's job, the profile; or nobody, then it is a claim of its own. "
        "What the profile or nobody chose stays.",
    )
    build: BuildStatus | None = Field(None, description="The latest build, while it has no result.")
    compression: CompressionStatus | None = Field(None, description="What the build made of it.")
    revisions: list[RevisionStatus] = Field(
        default_factory=list, max_length=16, description="The newest first; some that are gone, for the record.",
        json_schema_extra={"list_map_keys": ["name"]},
    )  # fmt: skip
    replicas: Count = Field(0, description="Servers of the revision that serves.")
    ready_replicas: Count = Field(0, description="Those of them that answer.")
    selector: str | None = Field(None, max_length=512, description="Of the servers' pods, for autoscalers.")
    scaling: ScalingStatus | None = Field(None, description="How many servers, and why.")
    contest_time: Time | None = Field(
        None, description="When something else last set the number of servers in vain, to the minute."
    )
