"""The DeepSpeed configuration as it is passed on: the run's, with what it leaves open filled in."""

from __future__ import annotations

import copy
from typing import Any

from modelyard.contract.run import TrainingInput
from modelyard_models.failure import Failure

from modelyard_trainer.train.precision import Precision

# The name of today, and those that DeepSpeed takes for it.
_GATHER = (
    "stage3_gather_16bit_weights_on_model_save",
    "gather_16bit_weights_on_model_save",
    "stage3_gather_fp16_weights_on_model_save",
)


def fill_config(
    given: dict[str, Any], training: TrainingInput, precision: Precision, world_size: int
) -> dict[str, Any]:
    """A complete configuration. What the run says stays, unless it is "auto". Raises Failure (InvalidArgument)."""
    config = copy.deepcopy(given)
    sizes = {
        "train_micro_batch_size_per_gpu": training.per_device_train_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "train_batch_size": training.per_device_train_batch_size
        * training.gradient_accumulation_steps
        * world_size,
    }
    for key, value in sizes.items():
        if config.get(key, "auto") == "auto":
            config[key] = value
    config.setdefault("gradient_clipping", "auto")
    for key, name in (("bf16", "bfloat16"), ("fp16", "float16")):
        block = config.setdefault(key, {})
        if block.get("enabled", "auto") == "auto":
            block["enabled"] = precision == name
    zero = config.setdefault("zero_optimization", {})
    if stage_of(config) == 3:
        _gather_on_save(zero)
    # The optimizer is transformers' own unless the configuration has one; DeepSpeed knows only some of them.
    config.setdefault("zero_allow_untested_optimizer", True)
    config.setdefault("zero_force_ds_cpu_optimizer", False)
    optimizer = config.get("optimizer")
    if isinstance(optimizer, dict) and str(optimizer.get("type", "")).lower() in ("adam", "adamw"):
        # DeepSpeed's own fused Adam is compiled at the first start, for which the image has no compiler.
        optimizer.setdefault("params", {}).setdefault("torch_adam", True)
    return config


def _gather_on_save(zero: dict[str, Any]) -> None:
    """Without it a stage-3 model can't be written as one Hugging Face folder. Raises Failure (InvalidArgument)."""
    for name in _GATHER:
        if zero.get(name, "auto") not in (True, "auto"):
            raise Failure(
                "InvalidArgument",
                f"deepspeed.config.zero_optimization.{name} is {zero[name]!r}: the model would have no weights, "
                "since under stage 3 they are gathered only to be saved; remove it, or set it to true",
            )
    zero[_GATHER[0]] = True


def stage_of(config: dict[str, Any]) -> int:
    """The ZeRO stage, 0 if none is set."""
    return int(config.get("zero_optimization", {}).get("stage", 0))
