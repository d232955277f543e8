"""Profiles: what the platform team decides for everybody, read from one ConfigMap that the chart renders."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from modelyard.api.base import ApiModel
from modelyard.api.trainer import EnvVar, Resources
from modelyard.api.values import ClaimUri, Quantity


class ProfileStorage(ApiModel):
    """Storage of jobs that name none."""

    uri: ClaimUri | None = Field(None, description="A shared claim. Unset: one claim per job.")
    size: Quantity = Field("20Gi", description="Size of a job's own claim.")
    storage_class_name: str | None = Field(None, description="Unset: the cluster's default class.")
    access_modes: list[str] = Field(default_factory=lambda: ["ReadWriteMany"], min_length=1)


PricedResource = Annotated[
    str, Field(pattern=r"^(cpu|memory|ephemeral-storage|hugepages-[0-9]+[KMG]i|[a-z0-9.-]+/[A-Za-z0-9._-]+)$")
]


class Prices(ApiModel):
    """What resources cost, per hour for which they are set aside: a core, a GiB, a device."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(description="ISO 4217, as EUR.")
    # A misspelt resource would cost nothing, without a word.
    per_hour: dict[PricedResource, Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]] = Field(
        description="By resource: cpu (a core), memory (a GiB), nvidia.com/gpu (a device) …", min_length=1
    )


class Profile(ApiModel):
    """Defaults and placement of the jobs that name this profile."""

    trainer_image: str = Field(description="Image of the built-in trainer and of data preparation.")
    server_image: str = Field("", description="Image of the built-in model server, and of builds.")
    vllm_image: str = Field(
        "", description="Image of vLLM's server, v0.18 or later. Unset: engine auto never takes it."
    )
    prometheus: str = Field(
        "",
        description="Address of the Prometheus that scrapes the gateways, for scaler keda: http://host:9090.",
    )
    gateway_image: str = Field("", description="Image of the gateways before model servers.")
    agent_image: str = Field(description="Image that carries the agent into users' own images.")
    image_pull_policy: str = Field("IfNotPresent")
    image_pull_secrets: list[str] = Field(default_factory=list)
    resources: Resources = Field(
        default_factory=lambda: Resources(limits={"cpu": "2", "memory": "4Gi"}),
        description="Per training pod.",
    )
    # Preparation asks for less than it may use: a pod that waits for data needs no whole cores set aside.
    prepare_resources: Resources = Field(
        default_factory=lambda: Resources(
            limits={"cpu": "2", "memory": "4Gi"}, requests={"cpu": "500m", "memory": "1Gi"}
        ),
        description="Of the preparation pod.",
    )
    server_resources: Resources = Field(
        default_factory=lambda: Resources(
            limits={"cpu": "2", "memory": "4Gi"}, requests={"cpu": "500m", "memory": "2Gi"}
        ),
        description="Of each pod that serves a model, and of the pod that builds it.",
    )
    # A gateway passes thousands of requests a second with one core.
    gateway_resources: Resources = Field(
        default_factory=lambda: Resources(
            limits={"cpu": "1", "memory": "384Mi"}, requests={"cpu": "100m", "memory": "128Mi"}
        ),
        description="Of each gateway pod.",
    )
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    priority_class_name: str | None = None
    # How a mesh or a log shipper is told to leave pods alone, or to put itself in as a native sidecar.
    pod_labels: dict[str, str] = Field(default_factory=dict, description="Of every pod of a job.")
    pod_annotations: dict[str, str] = Field(default_factory=dict, description="Of every pod of a job.")
    env: list[EnvVar] = Field(default_factory=list, description="For every pod: HF_ENDPOINT, HTTPS_PROXY …")
    storage: ProfileStorage = Field(default_factory=ProfileStorage)
    termination_grace_period_seconds: int = Field(120, ge=1, le=3600)
    prices: Prices | None = Field(None, description="Unset: hours are counted, but not what they cost.")
    max_process_restarts: int = Field(
        3, ge=0, le=100, description="In-place restarts of processes per attempt."
    )


class RoleName(ApiModel):
    """A role of the cluster, or one of each namespace's own."""

    kind: Literal["ClusterRole", "Role"]
    name: str


class Settings(ApiModel):
    """Everything the plans need to know that no object of a user's says."""

    profiles: dict[str, Profile]
    gateway_role: RoleName = Field(
        default_factory=lambda: RoleName(kind="ClusterRole", name="modelyard-gateway"),
        description="What gateways' accounts are bound to: it allows to watch EndpointSlices.",
    )
