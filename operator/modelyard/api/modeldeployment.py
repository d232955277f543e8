"""ModelDeployment: what a user writes. Each description is what `kubectl explain` prints."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from modelyard.api.base import ApiModel, Rule
from modelyard.api.durability import Storage
from modelyard.api.expressions import has
from modelyard.api.serving import (
    Compression,
    Engine,
    Gateway,
    Scaling,
    ServedModel,
    Server,
    ServingTask,
    Traffic,
)
from modelyard.api.values import ObjectName, make_name_rules

NAME_LIMIT = 44
NAME_RULES = make_name_rules(NAME_LIMIT, "it is the host name that callers use")


class ModelDeploymentSpec(ApiModel):
    """Which model to serve, on what, and how requests reach it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule=f"!({has('engine.type')}) || self.engine.type in ['auto', 'builtin'] || !({has('compression.texts')})",
            message="engine vllm and custom are not measured: remove compression.texts",
            field_path=".compression.texts",
        ),
        Rule(
            rule=f"!({has('engine.type')}) || self.engine.type in ['auto', 'builtin'] || !({has('compression.method')})"
            " || self.compression.method == 'none'",
            message="engine vllm and custom serve the model as it is: remove compression (vLLM has options of its own)",
            field_path=".compression.method",
        ),
        Rule(
            rule=f"!({has('engine.type')}) || self.engine.type != 'custom' || !has(self.server)"
            " || !(has(self.server.maxLength) || has(self.server.maxBatchTokens)"
            " || has(self.server.maxBatchDelayMilliseconds))",
            message="a server of your own doesn't read maxLength, maxBatchTokens and maxBatchDelayMilliseconds: say it"
            " in engine.custom.args or env",
            field_path=".server",
        ),
        Rule(
            rule=f"!({has('engine.type')}) || self.engine.type != 'vllm'"
            f" || !({has('server.maxBatchDelayMilliseconds')})",
            message="vLLM has no such delay: it takes what has come into each of its steps",
            field_path=".server.maxBatchDelayMilliseconds",
        ),
        Rule(
            rule=f"!({has('scaling.minReplicas')}) || self.scaling.minReplicas > 0"
            f" || !({has('traffic.maxQueue')}) || self.traffic.maxQueue > 0",
            message="with scaling.minReplicas 0 the first request has to wait for a server: maxQueue must be above 0",
            field_path=".traffic.maxQueue",
        ),
    )

    profile: ObjectName = Field(
        "default", description="The platform team's profile: images, resources, placement."
    )
    model: ServedModel
    task: ServingTask | None = Field(
        None, description="Default: what the model's folder says (modelyard.json)."
    )
    storage: Storage = Field(
        default_factory=Storage,
        description="Where the served model is kept. Default: the storage of the model's job, else the profile's.",
    )
    engine: Engine = Field(default_factory=Engine)
    compression: Compression = Field(default_factory=Compression)
    replicas: int = Field(
        1,
        ge=0,
        le=10_000,
        description="How many servers there are with scaling.scaler none; what kubectl scale sets. With builtin only "
        "where to begin.",
    )
    server: Server = Field(default_factory=Server)
    scaling: Scaling = Field(default_factory=Scaling)
    traffic: Traffic = Field(default_factory=Traffic)
    gateway: Gateway = Field(default_factory=Gateway)
    progress_deadline_seconds: int = Field(
        600, ge=10, le=86_400, description="How long a new revision may take to be ready."
    )
    keep_revisions: int = Field(
        3, ge=0, le=10, description="How many revisions that are gone stay listed in the status."
    )
    suspend: bool = Field(False, description="No servers; the gateway answers 503. What was built is kept.")
