"""The pods that train, and the parts of a pod that users write."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from modelyard.api.base import ApiModel, Rule
from modelyard.api.values import ObjectName, Quantity

Count = Annotated[int, Field(ge=0, le=2**53)]


class SecretKeyRef(ApiModel):
    """One key of a Secret of the same namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Key within it.")


class EnvVar(ApiModel):
    """One environment variable: a value, or a key of a Secret."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.value) != has(self.secretKeyRef)",
            message="set exactly one of value and secretKeyRef",
        ),
        Rule(
            rule="!self.name.startsWith('MODELYARD_')",
            message="names that begin with MODELYARD_ are the operator's own: choose another name",
            field_path=".name",
        ),
    )

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)] = Field(
        description="Its name."
    )
    value: str | None = Field(None, max_length=8192, description="Its value.")
    secret_key_ref: SecretKeyRef | None = None


class Resources(ApiModel):
    """Container resources, as in a pod."""

    limits: dict[str, Quantity | Count] = Field(
        default_factory=dict,
        max_length=16,
        description="Most that a node's pod may use: cpu, memory, nvidia.com/gpu …",
    )
    requests: dict[str, Quantity | Count] = Field(
        default_factory=dict, max_length=16, description="What the scheduler sets aside. Default: the limits."
    )


class Trainer(ApiModel):
    """The pods that train. With `command`, your own code runs in them instead of the built-in trainer."""

    image: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Image of the pods. Default: the profile's trainer image.",
    )
    command: list[Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=list, max_length=64,
        description="Your own program, started once per process by torchrun under Modelyard's agent.",
    )  # fmt: skip
    env: list[EnvVar] = Field(
        default_factory=list, max_length=64, description="Further environment variables.",
        json_schema_extra={"list_map_keys": ["name"]},
    )  # fmt: skip
    num_nodes: int = Field(1, ge=1, le=1024, description="Pods that train together.")
    num_proc_per_node: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto",
        description="Processes per pod. auto: one per GPU; one where there is none, or are slices of one.",
    )
    resources_per_node: Resources | None = Field(
        None, description="Resources of each pod. Default: the profile's."
    )
    pod_template: dict[str, Any] = Field(
        default_factory=dict, max_length=16,
        description="Overlay on the pods: metadata.labels, metadata.annotations, and of spec: nodeSelector, "
        "tolerations, affinity, topologySpreadConstraints, priorityClassName, schedulerName, runtimeClassName, "
        "imagePullSecrets, terminationGracePeriodSeconds, volumes (configMap, secret, emptyDir, "
        "persistentVolumeClaim) and containers: [{name: trainer, volumeMounts: […]}]. It can't weaken the pod's "
        "security.",
    )  # fmt: skip
