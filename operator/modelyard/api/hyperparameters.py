"""How a model is trained, and when it is good enough."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from modelyard.api.base import ApiModel, Rule
from modelyard.api.values import ModelUri, ObjectName

Scheduler = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup",
    "inverse_sqrt", "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr",
    "warmup_stable_decay", "cyclic", "one_cycle",
]  # fmt: skip
SCHEDULERS: tuple[str, ...] = get_args(Scheduler)
SCHEDULERS_WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau")
GLOBAL_BATCH_SIZE = 32


class ModelSource(ApiModel):
    """The base model: an existing one (`uri`), or a new one from its configuration (`config`)."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.uri) != has(self.config)",
            message="set exactly one of uri (an existing model) and config (a new model)",
        ),
        Rule(
            rule="!has(self.revision) || (has(self.uri) && self.uri.startsWith('hf://'))",
            message="revision is for hf:// models only: remove it, or name the model as hf://org/name",
            field_path=".revision",
        ),
    )

    uri: ModelUri | None = Field(
        None,
        description="Where the base model lies: pvc://claim/path or hf://org/name or an https:// archive "
        "(.tar, .tar.gz, .zip) of a Hugging Face model folder.",
    )
    revision: str | None = Field(
        None,
        max_length=256,
        description="Branch, tag or commit of a hf:// model. Resolved to a commit and frozen.",
    )
    config: dict[str, Any] | None = Field(
        None, max_length=256,
        description="A transformers model configuration (with `model_type`), to train from scratch. A "
        "tokenizer "
        "of `vocab_size` entries is trained on the training split.",
    )  # fmt: skip
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Type of the weights in training. auto is bfloat16 on a GPU that has it, float32 "
        "otherwise.",
    )


class Training(ApiModel):
    """How to train, in the words of transformers' TrainingArguments."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.numTrainEpochs) || !has(self.maxSteps)",
            message="set numTrainEpochs or maxSteps, not both",
        ),
        Rule(
            rule="!has(self.perDeviceTrainBatchSize) || self.perDeviceTrainBatchSize <= "
            f"(has(self.globalBatchSize) ? self.globalBatchSize : {GLOBAL_BATCH_SIZE})",
            message="perDeviceTrainBatchSize must not be above globalBatchSize "
            f"(default {GLOBAL_BATCH_SIZE}), of which it is a part",
            field_path=".perDeviceTrainBatchSize",
        ),
        Rule(
            rule="!has(self.lrSchedulerType) || !(self.lrSchedulerType in "
            f"{list(SCHEDULERS_WITHOUT_WARMUP)}) || !has(self.warmupSteps) || self.warmupSteps == 0.0",
            message="warmupSteps has no effect on lrSchedulerType constant and reduce_lr_on_plateau: use "
            "constant_with_warmup or another schedule, or remove warmupSteps",
            field_path=".warmupSteps",
        ),
    )

    num_train_epochs: float | None = Field(
        None, gt=0, description="Passes over the training split. Default 3."
    )
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps, instead of epochs.")
    global_batch_size: int = Field(
        GLOBAL_BATCH_SIZE,
        ge=1,
        le=1_048_576,
        description="Rows per optimizer step over all processes and accumulation steps.",
    )
    per_device_train_batch_size: int | None = Field(
        None, ge=1, le=65_536,
        description="Rows per process and forward pass. Default: the whole share of a process, at most 32; "
        "gradient accumulation is derived.",
    )  # fmt: skip
    max_length: int = Field(512, ge=8, le=1_048_576, description="Tokens per row; longer rows are cut.")
    learning_rate: float = Field(5e-5, gt=0, description="Peak learning rate, as 2e-5.")
    lr_scheduler_type: Scheduler = Field(
        "linear",
        description="Shape of the learning rate over the steps. Options by args.lr_scheduler_kwargs; "
        "cosine_with_min_lr and cosine_warmup_with_min_lr end at a tenth of the peak, warmup_stable_decay "
        "decays over the last tenth of the steps, unless these say otherwise.",
    )
    warmup_steps: float = Field(
        0, ge=0, description="Steps of warm-up; below 1 it is a fraction of all steps."
    )
    optim: str = Field(
        "adamw_torch",
        max_length=64,
        description="Optimizer, by its name in transformers: adamw_torch, adamw_torch_fused, adafactor, sgd, "
        "rmsprop, adagrad (ZeRO stage 0 and float32 only); others need packages that only an image of your own "
        "(trainer.image) has.",
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 weight decay.")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout written into the model's configuration."
    )
    seed: int = Field(42, ge=0, le=2**31 - 1, description="Seed of everything random in training.")
    eval_steps: int | None = Field(
        None, ge=1, description="Evaluate on the validation split every so many steps. Default: at the "
        "end only, or "
        "ten times over the run when the gate stops early or lrSchedulerType is reduce_lr_on_plateau.",
    )  # fmt: skip
    args: dict[str, Any] = Field(
        default_factory=dict, max_length=128,
        description="Any other TrainingArguments of transformers, in snake_case or camelCase. Unknown "
        "names are refused.",
    )  # fmt: skip


class DeepSpeed(ApiModel):
    """DeepSpeed: a ZeRO stage, or a whole configuration in DeepSpeed's own words."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.zeroStage) || !has(self.config)",
            message="set zeroStage or config, not both: config holds the stage as zero_optimization.stage",
        ),
    )

    zero_stage: Literal[0, 1, 2, 3] | None = Field(None, description="ZeRO stage. Default 1.")
    config: dict[str, Any] | None = Field(
        None, max_length=128,
        description="A DeepSpeed configuration, passed on as it is. Unknown keys and blocks that DeepSpeed removed "
        "are refused. What spec.training has fields for must agree where both say it, and is taken over where only "
        "config does.",
    )  # fmt: skip


class EarlyStopping(ApiModel):
    """Stops when the gate's metric no longer improves."""

    patience: int = Field(5, ge=1, le=1000, description="Evaluations without improvement before stopping.")
    min_delta: float = Field(0.0, ge=0, description="Smallest change that counts as improvement.")


class Gate(ApiModel):
    """The model passes if its metric on the validation split is within the bound; otherwise the job ends
    as GateFailed.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="has(self.max) != has(self.min)",
            message="set exactly one of max (for metrics that should be small) and min (for metrics "
            "that should be large)",
        ),
    )

    metric: Annotated[str, Field(pattern=r"^eval_[a-z0-9_]+$", max_length=64)] = Field(
        "eval_loss",
        description="eval_loss (the plain cross entropy of a row, or of a predicted token); for "
        "text-classification also eval_accuracy, eval_f1, eval_precision, eval_recall (means over the "
        "classes); for text-generation also eval_perplexity.",
    )
    max: float | None = Field(
        None, description="Largest value that passes, for metrics that should be small."
    )
    min: float | None = Field(
        None, description="Smallest value that passes, for metrics that should be large."
    )
    early_stopping: EarlyStopping | None = None


class Output(ApiModel):
    """The trained model."""

    name: ObjectName | None = Field(
        None, description="Name in the model card and modelyard.json. Default: the job's name."
    )
