"""ModelDeployment: what a user writes. Each description is what `kubectl explain` prints."""

from __future__ import annotations

from pydantic import Field

from modelyard.api.base import ApiModel
from modelyard.api.durability import Storage
from modelyard.api.serving import Compression, Engine, Gateway, Scaling, ServedModel, Server, Traffic
from modelyard.api.tasks import Task
from modelyard.api.values import ObjectName


class ModelDeploymentSpec(ApiModel):
    """Which model to serve, on what, and how requests reach it."""

    profile: ObjectName = Field(
        "default", description="The platform team's profile: images, resources, placement."
    )
    model: ServedModel
    task: Task | None = Field(None, description="Default: what the model's folder says (modelyard.json).")
    storage: Storage = Field(
        default_factory=Storage,
        description="Where the served model is kept. Default: the storage of the model's job, else the profile's.",
    )
    engine: Engine = Field(default_factory=Engine)
    compression: Compression = Field(default_factory=Compression)
    server: Server = Field(default_factory=Server)
    scaling: Scaling = Field(default_factory=Scaling)
    traffic: Traffic = Field(default_factory=Traffic)
    gateway: Gateway = Field(default_factory=Gateway)
    progress_deadline_seconds: int = Field(
        600, ge=10, le=86_400, description="How long a new revision may take to be ready."
    )
    suspend: bool = Field(False, description="No servers; the gateway answers 503. What was built is kept.")
