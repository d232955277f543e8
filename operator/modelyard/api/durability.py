"""What survives a pod: storage, checkpoints, and how often a job starts again."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from modelyard.api.base import ApiModel, Rule
from modelyard.api.values import ClaimUri, Quantity


class Claim(ApiModel):
    """A PersistentVolumeClaim that the operator makes: `<name>-storage` of a TrainingJob, `<name>-models` of a
    ModelDeployment.
    """

    size: Quantity | None = Field(None, description="Requested size, as 50Gi. Default: the profile's.")
    storage_class_name: str | None = Field(
        None, max_length=253, description="Default: the profile's, else the cluster's."
    )
    access_modes: list[Literal["ReadWriteOnce", "ReadWriteMany"]] = Field(
        default_factory=list, max_length=2,
        description="Default: the profile's. Pods on several nodes need ReadWriteMany.",
    )  # fmt: skip
    retain: bool = Field(
        False, description="true keeps the claim, and the models in it, when its resource is deleted."
    )


class Storage(ApiModel):
    """Where data, checkpoints and models are kept: a claim of yours (`uri`), or one that the operator
    makes (`claim`).
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.uri) || !has(self.claim)",
            message="set uri (a claim of yours) or claim (one that the operator makes), not both",
        ),
    )

    uri: ClaimUri | None = Field(None, description="pvc://claim or pvc://claim/folder.")
    claim: Claim | None = Field(None, description="A claim made for this resource. The default.")


class CheckpointEvery(ApiModel):
    """When to save. Whichever comes first."""

    steps: int | None = Field(None, ge=1, description="Every so many steps.")
    max_lost_seconds: int | None = Field(
        None,
        ge=1,
        le=86_400,
        description="At the latest after so many seconds of training. Default 600 if steps is unset.",
    )


class Checkpoint(ApiModel):
    """When checkpoints are saved and which of them are kept. Only verified ones count."""

    every: CheckpointEvery = Field(default_factory=CheckpointEvery)
    keep_last: int = Field(
        2, ge=1, le=100, description="Newest checkpoints kept. The last verified one is never deleted."
    )
    keep_best: int = Field(1, ge=0, le=100, description="Best checkpoints by the gate's metric kept besides.")
    on_signal: bool = Field(True, description="Save when a pod is asked to stop, so that no step is lost.")
    resume: Literal["Auto", "Never"] = Field(
        "Auto", description="Auto continues from the newest verified checkpoint after any interruption."
    )


class Backoff(ApiModel):
    """Wait before a restart: doubles each time, between the bounds, until progress is made."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="(has(self.initialSeconds) ? self.initialSeconds : 10) <= "
            "(has(self.maxSeconds) ? self.maxSeconds : 600)",
            message="initialSeconds (default 10) must not be above maxSeconds (default 600)",
        ),
    )

    initial_seconds: int = Field(10, ge=0, le=3600, description="First wait.")
    max_seconds: int = Field(600, ge=0, le=86_400, description="Longest wait.")


class FailurePolicy(ApiModel):
    """How often a job is started again. Failures of the infrastructure don't count as failures of the
    code.
    """

    max_restarts: int = Field(3, ge=0, le=1000, description="Restarts after failures of the training code.")
    max_infra_restarts: int = Field(
        50,
        ge=0,
        le=100_000,
        description="Restarts after lost nodes and evicted pods; preemptions are not limited.",
    )
    backoff: Backoff = Field(default_factory=Backoff)
