"""The number format that training computes in."""

from __future__ import annotations

from typing import Any, Literal

from modelyard_models.failure import Failure

from modelyard_trainer.train.devices import Devices

Precision = Literal["float32", "bfloat16", "float16"]


def choose_precision(
    dtype: str, deepspeed: dict[str, Any], args: dict[str, Any], devices: Devices
) -> Precision:
    """The user's own word first (DeepSpeed's blocks, then bf16/fp16 of args), then model.dtype.

    auto is bfloat16 on a GPU that has it, float32 otherwise. Raises Failure (InvalidArgument) for float16
    on a CPU.
    """
    asked: Precision | None = None
    for name, key in (("bfloat16", "bf16"), ("float16", "fp16")):
        block = deepspeed.get(key)
        if (isinstance(block, dict) and block.get("enabled") is True) or args.get(key) is True:
            asked = "bfloat16" if name == "bfloat16" else "float16"
    if asked == "float16" and not devices.gpu:
        raise Failure(
            "InvalidArgument", "float16 (fp16) isn't available on a CPU; use model.dtype bfloat16 or float32"
        )
    if asked:
        return asked
    if dtype == "bfloat16" or (dtype == "auto" and devices.bfloat16):
        return "bfloat16"
    return "float32"
