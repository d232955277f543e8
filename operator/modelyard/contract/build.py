"""What a build is told, and what it tells back: a model's variants, measured and gated."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelyard.contract.base import ContractModel, Versioned
from modelyard.contract.report import FailureReport
from modelyard.contract.server import Batching, Runtime

Method = Literal["none", "bf16", "int8"]


class BuildGate(ContractModel):
    """What a variant may lose of the model as it was trained. Either `max_drop` of `metric`, or `min_agreement`."""

    metric: str | None = None
    max_drop: float | None = None
    min_agreement: float | None = None


class BuildConfig(Batching, Versioned):
    """Everything that a build needs to know. No secrets."""

    package: str = Field(description="Where the package goes: packages/<id>, below the storage root.")
    storage: str = Field(
        description="The storage root as users write it: what lies below is not copied, but for what is converted."
    )
    uri: str = Field(description="The model: pvc://claim/path, hf://org/name or https://host/archive.")
    revision: str | None = Field(None, description="Of a hf:// model.")
    digest: str | None = Field(
        None, description="The model's, where it is known: a folder with another one is refused."
    )
    task: str | None = Field(None, description="Unset: what the model's folder says.")
    dataset: str | None = Field(
        None,
        description="pvc://claim/path of the prepared data of the model's job; its validation split is used.",
    )
    texts: list[str] = Field(
        default_factory=list,
        description="Where there is no dataset: what the variants are compared on.",
        max_length=64,
    )
    methods: list[Method] = Field(
        description="What is made and measured; none is always among it, as the others are compared with it.",
        min_length=1,
    )
    choose: Method | Literal["auto"] = Field(description="auto: the fastest that passes the gate.")
    gate: BuildGate
    measure: bool = Field(
        True,
        description="False: what serves it is not the built-in server; the model is only fetched and checked.",
    )


class VariantReport(ContractModel):
    """One variant as it was measured. Latency and rates are this pod's, which has the server's resources."""

    name: Method
    runtime: Runtime = "torch"
    folder: str | None = Field(
        None, description="Below the storage root; unset where it could not be made, or another is served."
    )
    bytes: int = 0
    load_seconds: float | None = None
    latency_milliseconds: float | None = Field(None, description="Median of one request alone.")
    requests_per_second: float | None = Field(None, description="At the knee: where more at once only wait.")
    concurrency: float | None = Field(None, description="Requests in flight at the knee.")
    metrics: dict[str, float] = Field(default_factory=dict)
    agreement: float | None = None
    passed: bool | None = None
    reason: str | None = Field(None, description="Why it did not pass, or could not be made.")


class BuildResult(Versioned):
    """Result of the build pod: its termination message, and package.json in the package's folder."""

    stage: Literal["build"] = "build"
    outcome: Literal["succeeded", "failed"]
    digest: str | None = Field(None, description="Content address of the model as it was trained.")
    revision: str | None = Field(None, description="Commit that a hf:// revision was resolved to.")
    task: str | None = None
    max_length: int | None = None
    chosen: Method | None = None
    variants: list[VariantReport] = Field(default_factory=list)
    reference: str | None = Field(
        None, description="reference.json of the chosen variant, below the storage root."
    )
    cache_hit: bool = False
    failure: FailureReport | None = None
