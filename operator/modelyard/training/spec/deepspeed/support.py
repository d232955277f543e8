"""What a DeepSpeed configuration may ask for and the built-in trainer or its image can't give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard.workloads.problem import Refused

_ROOT = "spec.deepspeed.config"
_COMPILER = "needs code that is compiled at its first use, and the trainer's image has no compiler"
_OWN_IMAGE = "set spec.trainer.image to an image that has it"
_OWN_LOADER = "transformers' Trainer loads the rows, not DeepSpeed"

# On in any of our runs it does nothing, or something else than the run config says; whatever the image.
_NEVER: dict[str, str] = {
    "activation_checkpointing": "the models don't read it: set spec.training.args.gradient_checkpointing: true",
    "autotuning": "only the deepspeed launcher reads it: remove it",
    "checkpoint": "checkpoints are Modelyard's own: remove it, and see spec.checkpoint",
    "compile.deepcompile": "the Trainer doesn't start it: remove it",
    "data_efficiency": f"{_OWN_LOADER}: remove it",
    "dataloader_drop_last": f"{_OWN_LOADER}: remove it",
    "datastates_ckpt": "checkpoints are Modelyard's own: remove it",
    "expert_parallel": "the Trainer doesn't start it: remove it",
    "hybrid_engine": "it is for generation within training: remove it",
    "pipeline": "it is for models of DeepSpeed's PipelineModule: remove it",
    "sequence_parallel_size": "the Trainer doesn't divide sequences: remove it",
    "tensor_parallel": "exports and metrics of divided layers would be wrong: remove it and use ZeRO stage 3",
    "use_data_before_expert_parallelism": "the Trainer doesn't divide experts: remove it",
    "weight_quantization": "it is for inference: remove it",
    "zero_optimization.elastic_checkpoint": "Modelyard converts checkpoints itself: remove it",
}
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "comet": "comet_ml"}
_COMPILED = (
    "aio.use_gds",
    "bf16.bf16_master_weights_and_grads",
    "bf16.bf16_optimizer_states",
    "fp16.fp16_master_weights_and_grads",
    "zero_optimization.offload_optimizer.super_offload",
    "zero_optimization.zenflow",
    "zero_optimization.zero_quantized_gradients",
    "zero_optimization.zero_quantized_nontrainable_weights",
    "zero_optimization.zero_quantized_weights",
)
_GATHER = "zero_optimization.stage3_gather_16bit_weights_on_model_save"


def check_support(config: Mapping[str, Any], on_cpu: bool, own_image: bool) -> None:
    """Raises Refused (InvalidSpec) with what to write instead."""
    for path, advice in _NEVER.items():
        if _is_on(find(config, path)):
            raise Refused("InvalidSpec", f"{_ROOT}.{path} has no use in this trainer: {advice}.")
    if find(config, "managed_gradient_accumulation") is False:
        _refuse("managed_gradient_accumulation", "can't be false under transformers' Trainer: remove it")
    if find(config, "zero_optimization.stage") == 3 and find(config, _GATHER) is False:
        _refuse(
            _GATHER,
            "can't be false under stage 3: the model would be exported without its weights. Set it to true, or"
            " remove it",
        )
    if find(config, "fp16.enabled") is True and find(config, "bf16.enabled") is True:
        _refuse("fp16.enabled", f"and {_ROOT}.bf16.enabled are both true; keep one")
    if on_cpu and find(config, "fp16.enabled") is True:
        _refuse(
            "fp16.enabled", "can't be true on a CPU, which can't train in fp16: use bf16, or ask for a GPU"
        )
    if find(config, "gradient_allreduce_op") == "sum" and find(config, "zero_optimization.stage") == 3:
        _refuse("gradient_allreduce_op", "can't be sum under stage 3: use mean, or a lower stage")
    if not own_image:
        _check_image(config)


def find(config: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _check_image(config: Mapping[str, Any]) -> None:
    for block, package in _PACKAGES.items():
        if find(config, f"{block}.enabled") is True:
            _refuse(
                f"{block}.enabled",
                f"needs the package {package}, which the trainer's image doesn't have: remove it, or {_OWN_IMAGE}",
            )
    for path in _COMPILED:
        if _is_on(find(config, path)):
            _refuse(path, f"{_COMPILER}: remove it, or {_OWN_IMAGE}")
    for name in ("offload_optimizer", "offload_param"):
        if find(config, f"zero_optimization.{name}.device") == "nvme":
            _refuse(f"zero_optimization.{name}.device", f"nvme {_COMPILER}: use cpu, or {_OWN_IMAGE}")
    offloads = find(config, "zero_optimization.offload_optimizer.device") == "cpu"
    if offloads and config.get("zero_force_ds_cpu_optimizer") is True:
        _refuse("zero_force_ds_cpu_optimizer", f"{_COMPILER}: set it to false, or {_OWN_IMAGE}")
    optimizer = str(find(config, "optimizer.type") or "")
    if optimizer.lower() in ("adam", "adamw") and find(config, "optimizer.params.torch_adam") is False:
        _refuse(
            "optimizer.params.torch_adam",
            f"false: DeepSpeed's own Adam {_COMPILER}; use true, or {_OWN_IMAGE}",
        )
    own = ("lamb", "lion", "muon", "muadam", "muadamw", "musgd")
    if optimizer.lower() in own:
        missing = "needs the package mup" if optimizer.lower().startswith("mu") and optimizer.lower() != "muon" else (
            _COMPILER
        )  # fmt: skip
        _refuse("optimizer.type", f"{optimizer} {missing}: use AdamW, or {_OWN_IMAGE}")


def _is_on(value: Any) -> bool:
    if isinstance(value, Mapping):
        if "enabled" in value:
            return value["enabled"] is True
        return any(_is_on(each) for each in value.values())
    if isinstance(value, int) and not isinstance(value, bool):
        return value > 1  # one process, one expert, one stage: the same as none
    return bool(value) and value not in ("auto", "none")


def _refuse(path: str, what: str) -> None:
    raise Refused("InvalidSpec", f"{_ROOT}.{path} {what}.")
