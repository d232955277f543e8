"""TrainingJob: what a user writes. Each description is what `kubectl explain` prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from modelyard.api.base import ApiModel
from modelyard.api.values import DATA_SCHEMES, MODEL_SCHEMES, ObjectName, Quantity, parse_uri

Task = Literal["text-classification", "text-generation"]
DataUri = Annotated[str, Field(pattern=r"^(pvc|https?|configmap)://.+", max_length=2048)]
ModelUri = Annotated[str, Field(pattern=r"^(pvc|hf|https?)://.+", max_length=2048)]
ColumnName = Annotated[str, Field(min_length=1, max_length=256)]
Fraction = Annotated[float, Field(ge=0, lt=1)]

SCHEDULERS = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup",
    "inverse_sqrt", "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr",
    "warmup_stable_decay", "cyclic", "one_cycle",
)  # fmt: skip


class ModelSource(ApiModel):
    """The base model: an existing one (`uri`), or a new one from its configuration (`config`)."""

    uri: ModelUri | None = Field(
        None,
        description="Where the base model lies: pvc://claim/path or hf://org/name or an https:// archive "
        "(.tar, .tar.gz, .zip) of a Hugging Face model folder.",
    )
    revision: str | None = Field(
        None, max_length=256, description="Branch, tag or commit of a hf:// model. Resolved to a commit and frozen."
    )
    config: dict[str, Any] | None = Field(
        None,
        description="A transformers model configuration (with `model_type`), to train from scratch. A tokenizer "
        "of `vocab_size` entries is trained on the training split.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Type of the weights in training. auto is bfloat16 on a GPU that has it, float32 otherwise."
    )


class Columns(ApiModel):
    """Which columns of the source hold what. Text sources have one column, `text`."""

    text: ColumnName = Field("text", description="Column with the text.")
    label: ColumnName = Field("label", description="Column with the class; read for text-classification only.")


class DataSource(ApiModel):
    """One file, or a folder or glob of files, of one format."""

    name: ObjectName = Field(description="Name of the source, unique within the job; appears in reports.")
    uri: DataUri = Field(
        description="pvc://claim/path (a file, a folder, or a glob), https://host/file, or configmap://name/key."
    )
    format: Literal["auto", "csv", "jsonl", "parquet", "text"] = Field(
        "auto", description="auto goes by the file's ending (.csv, .jsonl, .parquet, .txt; also .gz)."
    )
    columns: Columns = Field(default_factory=Columns, description="Names of the columns to read.")


class Normalize(ApiModel):
    """Brings text into one form."""

    unicode: Literal["NFC", "NFKC", "None"] = Field("NFC", description="Unicode normal form.")
    fix_mojibake: bool = Field(True, description="Repairs text that was decoded with the wrong encoding.")


class Filter(ApiModel):
    """Removes rows by length. Bounds are inclusive."""

    min_tokens: int | None = Field(None, ge=0, description="Fewest tokens of the model's tokenizer.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens of the model's tokenizer.")
    min_characters: int | None = Field(None, ge=0, description="Fewest characters.")
    max_characters: int | None = Field(None, ge=1, description="Most characters.")


class Deduplicate(ApiModel):
    """Removes rows whose text was seen before; the first one stays."""

    method: Literal["exact"] = Field("exact", description="exact compares the whole text.")


class PrepareStep(ApiModel):
    """One step; exactly one member is set."""

    normalize: Normalize | None = Field(None, description="Unicode normalisation and repair.")
    filter: Filter | None = Field(None, description="Removes rows that are too short or too long.")
    deduplicate: Deduplicate | None = Field(None, description="Removes repeated rows.")


class Split(ApiModel):
    """Fractions of the rows that are kept out of training."""

    validation: Fraction = Field(0.1, description="Fraction for evaluation during training and for the gate.")
    test: Fraction = Field(0.0, description="Fraction evaluated once, at the end.")
    stratify_by: Literal["label"] | None = Field(
        None, description="label keeps the share of each class the same in all splits."
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="Seed of the shuffle.")


class Require(ApiModel):
    """Demands on the prepared data; a miss ends the job before any accelerator is asked for."""

    min_rows: int | None = Field(None, ge=1, description="Fewest rows that must be left in all splits together.")
    max_removed_fraction: float | None = Field(
        None, ge=0, le=1, description="Largest fraction of the rows that the steps may remove."
    )


class Data(ApiModel):
    """What to train on and how it is prepared."""

    sources: list[DataSource] = Field(
        min_length=1, max_length=16, description="Where the rows come from.", json_schema_extra={"list_map_keys": ["name"]}
    )
    prepare: list[PrepareStep] = Field(
        default_factory=list, max_length=16, description="Steps in order. Every removed row is counted with its reason."
    )
    split: Split = Field(default_factory=Split, description="How the rows are divided.")
    require: Require = Field(default_factory=Require, description="What the prepared data must satisfy.")


class Training(ApiModel):
    """How to train, in the words of transformers' TrainingArguments."""

    num_train_epochs: float | None = Field(None, gt=0, description="Passes over the training split. Default 3.")
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps, instead of epochs.")
    global_batch_size: int = Field(
        32, ge=1, le=1_048_576, description="Rows per optimizer step over all processes and accumulation steps."
    )
    per_device_train_batch_size: int | None = Field(
        None, ge=1, le=65_536,
        description="Rows per process and forward pass. Default: the whole share of a process, at most 32; "
        "gradient accumulation is derived.",
    )  # fmt: skip
    max_length: int = Field(512, ge=8, le=1_048_576, description="Tokens per row; longer rows are cut.")
    learning_rate: float = Field(5e-5, gt=0, description="Peak learning rate, as 2e-5.")
    lr_scheduler_type: str = Field(
        "linear", json_schema_extra={"enum": list(SCHEDULERS)}, description="Shape of the learning rate over the steps."
    )
    warmup_steps: float = Field(0, ge=0, description="Steps of warm-up; below 1 it is a fraction of all steps.")
    optim: str = Field("adamw_torch", max_length=64, description="Optimizer, by its name in transformers.")
    weight_decay: float = Field(0.0, ge=0, description="L2 weight decay.")
    dropout: float | None = Field(None, ge=0, lt=1, description="Dropout written into the model's configuration.")
    seed: int = Field(42, ge=0, le=2**31 - 1, description="Seed of everything random in training.")
    eval_steps: int | None = Field(
        None, ge=1, description="Evaluate on the validation split every so many steps. Default: at the end only, or "
        "ten times over the run when the gate stops early.",
    )  # fmt: skip
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Any other TrainingArguments of transformers, in snake_case or camelCase. Unknown names are refused.",
    )


class DeepSpeed(ApiModel):
    """DeepSpeed: a ZeRO stage, or a whole configuration in DeepSpeed's own words."""

    zero_stage: Literal[0, 1, 2, 3] | None = Field(None, description="ZeRO stage. Default 1.")
    config: dict[str, Any] | None = Field(
        None, description="A DeepSpeed configuration, passed on as it is. Blocks that DeepSpeed removed are refused."
    )


class EnvVar(ApiModel):
    """One environment variable: a value, or a key of a Secret."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)] = Field(description="Its name.")
    value: str | None = Field(None, max_length=8192, description="Its value.")
    secret_key_ref: SecretKeyRef | None = Field(None, description="Reads the value from a Secret.")


class SecretKeyRef(ApiModel):
    """One key of a Secret in the job's namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Key within it.")


class Resources(ApiModel):
    """Container resources, as in a pod."""

    limits: dict[str, Quantity | int] = Field(
        default_factory=dict, max_length=16, description="Most that a node's pod may use: cpu, memory, nvidia.com/gpu …"
    )
    requests: dict[str, Quantity | int] = Field(
        default_factory=dict, max_length=16, description="What the scheduler sets aside. Default: the limits."
    )


class Trainer(ApiModel):
    """The pods that train. With `command`, your own code runs in them instead of the built-in trainer."""

    image: str | None = Field(None, max_length=512, description="Image of the pods. Default: the profile's trainer image.")
    command: list[Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=list, max_length=64,
        description="Your own program, started once per process by torchrun under Modelyard's agent.",
    )  # fmt: skip
    env: list[EnvVar] = Field(
        default_factory=list, max_length=64, description="Further environment variables.",
        json_schema_extra={"list_map_keys": ["name"]},
    )  # fmt: skip
    num_nodes: int = Field(1, ge=1, le=1024, description="Pods that train together.")
    num_proc_per_node: int | Literal["auto"] = Field(
        "auto", description="Processes per pod. auto: one per GPU, or one where there is none."
    )
    resources_per_node: Resources | None = Field(None, description="Resources of each pod. Default: the profile's.")
    pod_template: dict[str, Any] = Field(
        default_factory=dict,
        description="Overlay on the pods: metadata.labels, metadata.annotations, and of spec: nodeSelector, tolerations, "
        "affinity, topologySpreadConstraints, priorityClassName, schedulerName, runtimeClassName, imagePullSecrets, "
        "terminationGracePeriodSeconds, volumes (configMap, secret, emptyDir, persistentVolumeClaim) and "
        "volumeMounts of the training container. It can't weaken the pod's security.",
    )


class Claim(ApiModel):
    """A PersistentVolumeClaim that the operator creates for the job, named `<job>-storage`."""

    size: Quantity | None = Field(None, description="Requested size, as 50Gi. Default: the profile's.")
    storage_class_name: str | None = Field(None, max_length=253, description="Default: the profile's, else the cluster's.")
    access_modes: list[Literal["ReadWriteOnce", "ReadWriteMany"]] = Field(
        default_factory=list, max_length=2,
        description="Default: the profile's. Pods on several nodes need ReadWriteMany.",
    )  # fmt: skip
    retain: bool = Field(False, description="true keeps the claim, and the model in it, when the job is deleted.")


class Storage(ApiModel):
    """Where data, checkpoints and the model are kept: a claim of yours (`uri`), or one that the operator makes (`claim`)."""

    uri: Annotated[str, Field(pattern=r"^pvc://.+", max_length=2048)] | None = Field(
        None, description="pvc://claim or pvc://claim/folder."
    )
    claim: Claim | None = Field(None, description="A claim made for this job. The default.")


class CheckpointEvery(ApiModel):
    """When to save. Whichever comes first."""

    steps: int | None = Field(None, ge=1, description="Every so many steps.")
    max_lost_seconds: int | None = Field(
        None, ge=1, le=86_400, description="At the latest after so many seconds of training. Default 600 if steps is unset."
    )


class Checkpoint(ApiModel):
    """When checkpoints are saved and which of them are kept. Only verified ones count."""

    every: CheckpointEvery = Field(default_factory=CheckpointEvery, description="Interval.")
    keep_last: int = Field(2, ge=1, le=100, description="Newest checkpoints kept. The last verified one is never deleted.")
    keep_best: int = Field(1, ge=0, le=100, description="Best checkpoints by the gate's metric kept besides.")
    on_signal: bool = Field(True, description="Save when a pod is asked to stop, so that no step is lost.")
    resume: Literal["Auto", "Never"] = Field(
        "Auto", description="Auto continues from the newest verified checkpoint after any interruption."
    )


class EarlyStopping(ApiModel):
    """Stops when the gate's metric no longer improves."""

    patience: int = Field(5, ge=1, le=1000, description="Evaluations without improvement before stopping.")
    min_delta: float = Field(0.0, ge=0, description="Smallest change that counts as improvement.")


class Gate(ApiModel):
    """The model passes if its metric on the validation split is within the bound; otherwise the job ends as GateFailed."""

    metric: Annotated[str, Field(pattern=r"^eval_[a-z0-9_]+$", max_length=64)] = Field(
        "eval_loss",
        description="eval_loss; for text-classification also eval_accuracy, eval_f1 (macro), eval_precision, eval_recall; "
        "for text-generation also eval_perplexity.",
    )
    max: float | None = Field(None, description="Largest value that passes, for metrics that should be small.")
    min: float | None = Field(None, description="Smallest value that passes, for metrics that should be large.")
    early_stopping: EarlyStopping | None = Field(None, description="Stop when the metric no longer improves.")


class Backoff(ApiModel):
    """Wait before a restart: doubles each time, between the bounds, until progress is made."""

    initial_seconds: int = Field(10, ge=0, le=3600, description="First wait.")
    max_seconds: int = Field(600, ge=0, le=86_400, description="Longest wait.")


class FailurePolicy(ApiModel):
    """How often a job is started again. Failures of the infrastructure don't count as failures of the code."""

    max_restarts: int = Field(3, ge=0, le=1000, description="Restarts after failures of the training code.")
    max_infra_restarts: int = Field(
        50, ge=0, le=100_000, description="Restarts after lost nodes and evicted pods; preemptions are not limited."
    )
    backoff: Backoff = Field(default_factory=Backoff, description="Wait between restarts.")


class Output(ApiModel):
    """The trained model."""

    name: ObjectName | None = Field(None, description="Name in the model card and modelyard.json. Default: the job's name.")


class TrainingJobSpec(ApiModel):
    """What to train, on what, how, where, and when it is good enough."""

    profile: ObjectName = Field("default", description="Profile of the platform team: images, resources, storage, placement.")
    task: Task | None = Field(None, description="What the model does. Required unless trainer.command is set.")
    model: ModelSource | None = Field(None, description="The base model. Required unless trainer.command is set.")
    data: Data | None = Field(None, description="The data. Required unless trainer.command is set.")
    training: Training = Field(default_factory=Training, description="Hyperparameters.")
    deepspeed: DeepSpeed = Field(default_factory=DeepSpeed, description="DeepSpeed settings.")
    trainer: Trainer = Field(default_factory=Trainer, description="The pods that train.")
    storage: Storage | None = Field(None, description="Where everything is kept. Default: the profile's.")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="Checkpoints.")
    gate: Gate | None = Field(None, description="When the model is good enough. Without it every finished model passes.")
    failure_policy: FailurePolicy = Field(default_factory=FailurePolicy, description="Restarts.")
    suspend: bool = Field(False, description="true saves a checkpoint, frees the pods and waits.")
    active_deadline_seconds: int | None = Field(
        None, ge=1, description="Longest time in seconds that pods may be active, summed over all attempts."
    )
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, description="Deletes the job so many seconds after it has finished."
    )
    output: Output = Field(default_factory=Output, description="The trained model.")

    @property
    def builtin(self) -> bool:
        """Whether the built-in trainer runs (and not the user's own command)."""
        return not self.trainer.command

    @model_validator(mode="after")
    def _check_uris(self) -> TrainingJobSpec:
        # The schema knows the scheme only; the rest is said here, so that a job ends Stalled with the field's name.
        if self.model and self.model.uri:
            parse_uri(self.model.uri, MODEL_SCHEMES)
        for source in self.data.sources if self.data else []:
            parse_uri(source.uri, DATA_SCHEMES)
        if self.storage and self.storage.uri:
            parse_uri(self.storage.uri, ("pvc",))
        return self
