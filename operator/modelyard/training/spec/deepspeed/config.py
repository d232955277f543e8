"""The DeepSpeed configuration: built from a ZeRO stage, or the user's own, checked for removed blocks."""

from __future__ import annotations

import copy
from typing import Any

from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.training.spec.deepspeed.schema import check_keys
from modelyard.training.spec.deepspeed.support import check_support, find
from modelyard.workloads.problem import Refused

DEFAULT_STAGE = 1

# What DeepSpeed 0.19 removed (`deepspeed/runtime/config.py`, `_REMOVED_TOP_LEVEL_CONFIG_KEYS`), and what to
# do instead.
# DeepSpeed itself says so only once the pods run.
REMOVED_BLOCKS = {
    "elasticity": "remove it; Modelyard resumes from the newest checkpoint and keeps globalBatchSize",
    "compression_training": "remove it and compress the trained model instead",
    "nebula": "remove it; Modelyard saves and verifies checkpoints itself (spec.checkpoint)",
    "amp": "use bf16 or torch_autocast",
    "quantize_training": "remove it and quantise the trained model instead",
    "eigenvalue": "remove it; it belonged to mixture-of-quantisation",
    "sparse_gradients": "remove it; embeddings made with sparse=True need no setting",
    "sparse_attention": "remove it and choose the model's own attention implementation",
    "graph_harvesting": "remove it",
    "curriculum_learning": "use data_efficiency.data_sampling.curriculum_learning",
    "progressive_layer_drop": "remove it",
}
REMOVED_ZERO_KEYS = {
    "mics_shard_size": "use zero_hpz_partition_size (ZeRO++) to shard within a node",
    "mics_hierarchical_params_gather": "remove it; it belonged to MiCS",
    "zeropp_loco_param": "remove it; zero_quantized_gradients works without it",
}
REMOVED_OPTIMIZERS = ("onebitadam", "zerooneadam", "onebitlamb")

_OPEN = {
    "optimizer": {
        "adam": ("lr", "betas", "eps", "weight_decay"), "adamw": ("lr", "betas", "eps", "weight_decay"),
        "adagrad": ("lr", "weight_decay"), "sgd": ("lr", "weight_decay"), "rmsprop": ("lr", "weight_decay"),
    },
    "scheduler": {
        "warmuplr": ("warmup_max_lr", "warmup_num_steps"),
        "warmupdecaylr": ("warmup_max_lr", "warmup_num_steps", "total_num_steps"),
        "warmupcosinelr": ("warmup_num_steps", "total_num_steps"),
    },
}  # fmt: skip


def build_config(spec: TrainingJobSpec, on_cpu: bool) -> dict[str, Any]:
    """A configuration whose "auto" values transformers fills in. Raises Refused."""
    if spec.deepspeed.config is None:
        return _from_stage(DEFAULT_STAGE if spec.deepspeed.zero_stage is None else spec.deepspeed.zero_stage)
    if spec.deepspeed.zero_stage is not None:
        raise Refused(
            "InvalidSpec",
            "spec.deepspeed: set zeroStage or config, not both; in a config the stage is"
            " zero_optimization.stage.",
        )
    config = copy.deepcopy(spec.deepspeed.config)
    if spec.builtin:
        check_support(config, on_cpu, own_image=spec.trainer.image is not None)
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        config.setdefault(key, "auto")
    for name, kinds in _OPEN.items():
        # DeepSpeed's own defaults, as a rate of 0.001, are nobody's word.
        block = config.get(name)
        if isinstance(block, dict):
            left_open = dict.fromkeys(kinds.get(str(block.get("type", "")).lower(), ()), "auto")
            block["params"] = left_open | (block.get("params") or {})
    return config


def check_config(spec: TrainingJobSpec) -> None:
    """Names, kinds and values of spec.deepspeed.config. Raises Refused."""
    if spec.deepspeed.config is not None:
        refuse_removed(spec.deepspeed.config)
        check_keys(spec.deepspeed.config)


def read_stage(spec: TrainingJobSpec) -> int:
    """The ZeRO stage; 0 where a configuration names none."""
    if spec.deepspeed.config is None:
        return DEFAULT_STAGE if spec.deepspeed.zero_stage is None else spec.deepspeed.zero_stage
    return int(find(spec.deepspeed.config, "zero_optimization.stage") or 0)


def refuse_removed(config: dict[str, Any]) -> None:
    """Raises Refused if the configuration has a block that DeepSpeed no longer knows."""
    for key, advice in REMOVED_BLOCKS.items():
        if key in config:
            raise Refused(
                "RemovedDeepSpeedBlock", f"spec.deepspeed.config.{key} was removed from DeepSpeed: {advice}."
            )
    zero = config.get("zero_optimization")
    for key, advice in REMOVED_ZERO_KEYS.items():
        if isinstance(zero, dict) and key in zero:
            path = f"spec.deepspeed.config.zero_optimization.{key}"
            raise Refused("RemovedDeepSpeedBlock", f"{path} was removed from DeepSpeed: {advice}.")
    optimizer = config.get("optimizer")
    kind = str(optimizer.get("type", "")) if isinstance(optimizer, dict) else ""
    if kind.lower() in REMOVED_OPTIMIZERS:
        raise Refused(
            "RemovedDeepSpeedBlock",
            f"spec.deepspeed.config.optimizer.type {kind} was removed from DeepSpeed: use AdamW or Lamb.",
        )


def _from_stage(stage: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        # Without it a stage-3 model can't be written as one Hugging Face folder.
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        # The optimizer is transformers' own (spec.training.optim), which DeepSpeed can't know.
        "zero_allow_untested_optimizer": True,
        "wall_clock_breakdown": False,
    }
