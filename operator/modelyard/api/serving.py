"""The parts of a ModelDeployment: the model, its compression, the pods, scaling and traffic."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from modelyard.api.base import ApiModel, Rule
from modelyard.api.expressions import has
from modelyard.api.trainer import EnvVar, Resources
from modelyard.api.values import ModelUri, ObjectName

Port = Annotated[int, Field(ge=1, le=65_535)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
MeasuredText = Annotated[str, Field(min_length=1, max_length=1024)]
ServingTask = Literal["text-classification", "text-generation", "embeddings"]


class ObjectReference(ApiModel):
    """Another resource of the same namespace."""

    name: ObjectName = Field(description="Its name.")


class SecretReference(ApiModel):
    """A Secret of the same namespace."""

    name: ObjectName = Field(description="Its name.")


class ServedModel(ApiModel):
    """The model: what a TrainingJob has trained, or one that lies somewhere."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.trainingJobRef) != has(self.uri)",
            message="set exactly one of trainingJobRef (a trained model) and uri (one that lies somewhere)",
        ),
        Rule(
            rule="!has(self.revision) || (has(self.uri) && self.uri.startsWith('hf://'))",
            message="revision is for hf:// models only: remove it, or name the model as hf://org/name",
            field_path=".revision",
        ),
        Rule(
            rule="!has(self.allowGateFailed) || has(self.trainingJobRef)",
            message="allowGateFailed is for a trainingJobRef, as other models have no gate: remove it",
            field_path=".allowGateFailed",
        ),
    )

    training_job_ref: ObjectReference | None = Field(
        None,
        description="A TrainingJob. While it trains, it is waited for; when it has trained anew under its name, "
        "the new model takes over.",
    )
    uri: ModelUri | None = Field(
        None,
        description="Where the model lies: pvc://claim/path or hf://org/name or an https:// archive "
        "(.tar, .tar.gz, .zip) of a Hugging Face model folder.",
    )
    revision: str | None = Field(
        None,
        max_length=256,
        description="Branch, tag or commit of a hf:// model. Resolved to a commit and frozen.",
    )
    allow_gate_failed: bool | None = Field(
        None, description="Serve the job's model although it missed its gate."
    )


class CustomEngine(ApiModel):
    """A server of your own in each pod. MODELYARD_MODEL_PATH tells it the model's folder, MODELYARD_MODEL_NAME the name
    that callers use.
    """

    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(description="Its image.")
    command: list[Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=list, max_length=64, description="In place of the image's entrypoint."
    )
    args: list[Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=list, max_length=64, description="In place of the image's arguments."
    )
    env: list[EnvVar] = Field(
        default_factory=list, max_length=64, description="Further environment variables.",
        json_schema_extra={"list_map_keys": ["name"]},
    )  # fmt: skip
    port: Port = Field(8080, description="Where it listens.")
    protocol: Literal["openai", "oip"] = Field(
        description="What it speaks: OpenAI's API (/v1), or the Open Inference Protocol (/v2). The gateways answer "
        "the other's inference paths with 404, and their page asks by it."
    )
    readiness_path: str = Field(
        "/health", pattern=r"^/.*$", max_length=256, description="GET answers 200 once it can serve."
    )


class Engine(ApiModel):
    """What computes the answers."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="(has(self.type) && self.type == 'custom') == has(self.custom)",
            message="custom goes with type: custom, and is needed there",
            field_path=".custom",
        ),
        Rule(
            rule="!has(self.args) || (has(self.type) && self.type == 'vllm')",
            message="args is for type: vllm only; with type: custom write custom.args",
            field_path=".args",
        ),
    )

    type: Literal["auto", "builtin", "vllm", "custom"] = Field(
        "auto",
        description="auto: vllm for text-generation where the profile names its image and the pod has an "
        "accelerator, else builtin.",
    )
    args: list[Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=list, max_length=64, description="Further arguments of vLLM's server."
    )
    custom: CustomEngine | None = None


class CompressionGate(ApiModel):
    """What a compressed model may lose of the one that was trained."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.maxDrop) != has(self.minAgreement)",
            message="set exactly one of maxDrop (of metric) and minAgreement",
        ),
        Rule(
            rule="has(self.metric) == has(self.maxDrop)",
            message="metric and maxDrop go together",
        ),
    )

    metric: str | None = Field(
        None, max_length=64, description="A metric of the task, as accuracy or perplexity."
    )
    max_drop: float | None = Field(
        None, ge=0, le=1,
        description="By how much it may be worse than the trained model's: absolute, for perplexity and loss as "
        "a share.",
    )  # fmt: skip
    min_agreement: float | None = Field(
        None, ge=0, le=1, description="Share of rows (or next tokens) with the trained model's answer."
    )


class Compression(ApiModel):
    """Smaller, faster variants of the model, measured and gated before one is served."""

    method: Literal["none", "bf16", "int8", "auto"] = Field(
        "none", description="auto: the fastest that passes the gate."
    )
    gate: CompressionGate = Field(
        default_factory=lambda: CompressionGate(min_agreement=0.98), description="Default: minAgreement 0.98."
    )
    texts: list[MeasuredText] = Field(
        default_factory=list, max_length=64,
        description="What the variants are measured and compared on, in place of the validation split of the model's "
        "job (or, where it has none, of 32 texts of ours): some that callers will send. They have no labels: gate on "
        "minAgreement.",
    )  # fmt: skip


class Server(ApiModel):
    """The pods that serve."""

    resources: Resources | None = Field(None, description="Of each pod. Default: the profile's.")
    pod_template: dict[str, Any] = Field(
        default_factory=dict, max_length=16,
        description="Overlay on the pods, as TrainingJob's trainer.podTemplate; the container is called server. "
        "It can't weaken the pod's security.",
    )  # fmt: skip
    max_length: int | None = Field(
        None, ge=1, le=10_000_000, description="Tokens of one request, answer included. Default: the model's."
    )
    max_batch_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | Literal["auto"] = Field(
        "auto",
        description="Tokens computed at once, padding included. auto: 256 for each of the server's threads; with vllm, "
        "what vLLM takes.",
    )
    max_batch_delay_milliseconds: int = Field(
        5, ge=0, le=1000, description="How long a request may wait for others while the model is busy."
    )


class Scaling(ApiModel):
    """How many servers there are."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="(has(self.minReplicas) ? self.minReplicas : 1) <= (has(self.maxReplicas) ? self.maxReplicas : 1)",
            message="minReplicas must be at most maxReplicas",
            field_path=".minReplicas",
        ),
        Rule(
            rule="!has(self.target) || !has(self.scaler) || self.scaler in ['builtin', 'keda']",
            message="target is for scaler builtin and keda: with hpa set targetCpuUtilization, with none spec.replicas",
            field_path=".target",
        ),
        Rule(
            rule="!has(self.targetCpuUtilization) || (has(self.scaler) && self.scaler == 'hpa')",
            message="targetCpuUtilization is for scaler hpa only: remove it, or set scaler",
            field_path=".targetCpuUtilization",
        ),
        Rule(
            rule="!has(self.scaler) || self.scaler != 'hpa' || !has(self.minReplicas) || self.minReplicas > 0",
            message="minReplicas must be above 0 with scaler hpa: pods that don't run use no CPU; take builtin or keda",
            field_path=".minReplicas",
        ),
    )

    min_replicas: int = Field(1, ge=0, le=10_000, description="Fewest servers; 0: none while nobody asks.")
    max_replicas: int = Field(1, ge=1, le=10_000, description="Most servers.")
    target: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = Field(
        "auto", description="Requests in flight per server. auto: what the build measured as best."
    )
    scale_down_delay_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        300, description="How long fewer servers must do before there are fewer."
    )
    idle_seconds: Seconds = Field(300, description="Seconds without any request before the last server goes.")
    target_cpu_utilization: Annotated[int, Field(ge=1, le=100)] = Field(
        70, description="With scaler hpa: percent of their requested CPU that the servers should use."
    )
    scaler: Literal["builtin", "hpa", "keda", "none"] = Field(
        "builtin",
        description="Who sets the number of servers: the operator by the load; a HorizontalPodAutoscaler by the "
        "servers' CPU; KEDA by the load that the profile's Prometheus knows; or, with none, whoever writes "
        "spec.replicas.",
    )


class Cache(ApiModel):
    """Answers kept for equal requests whose answer can't differ; they come as they are, with the first one's `id` and
    `created`.
    """

    max_entries: int = Field(10_000, ge=1, le=10_000_000, description="Most answers kept by each gateway.")
    ttl_seconds: Seconds = Field(3600, description="How long an answer is kept.")


class ApiKeys(ApiModel):
    """Who may ask."""

    secret_ref: SecretReference = Field(description="A Secret: each value is a key, its name says whose.")


class RateLimit(ApiModel):
    """How often each may ask."""

    requests_per_second: float = Field(
        gt=0,
        le=1e6,
        description="In the long run, of all gateways together: each lets its share through, which is all that a"
        " caller on a single connection has.",
    )
    burst: int = Field(
        10,
        ge=1,
        le=1_000_000,
        description="At once, after a pause, at each gateway: a connection stays at one.",
    )
    per: Literal["key", "address"] = Field("address", description="Whose requests are counted together.")


class Traffic(ApiModel):
    """What callers may do. Changes restart no server."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule=f"!({has('rateLimit.per')}) || self.rateLimit.per != 'key' || has(self.apiKeys)",
            message="rateLimit.per: key needs apiKeys",
            field_path=".rateLimit.per",
        ),
    )

    timeout_seconds: Seconds = Field(
        60,
        description="From a request to the end of its answer; of a stream, to its first part, and from part to part.",
    )
    max_queue: int = Field(
        200, ge=0, le=1_000_000, description="Requests that wait for a server, at each gateway."
    )
    max_request_bytes: int = Field(1 << 20, ge=1, le=1 << 30, description="Largest body of a request.")
    cache: Cache | None = Field(None, description="Unset: nothing is kept.")
    api_keys: ApiKeys | None = Field(None, description="Unset: whoever reaches the Service may ask.")
    rate_limit: RateLimit | None = Field(None, description="Unset: no limit.")


class Gateway(ApiModel):
    """The pods through which all requests go."""

    replicas: int = Field(2, ge=1, le=100, description="How many.")
    resources: Resources | None = Field(None, description="Of each. Default: the profile's.")
