"""Writes operator/modelyard/training/spec/deepspeed/deepspeed.json from the installed DeepSpeed and torch.

    python -m tests.unit.training.generate_deepspeed

The top-level keys are those that DeepSpeed's own reader asks for; blocks with a pydantic model are
described by it, the others by the keys that are asked for inside of them.
"""

from __future__ import annotations

import inspect
import json
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

TARGET = Path(__file__).parents[3] / "operator/modelyard/training/spec/deepspeed/deepspeed.json"
_KINDS: dict[type, str] = {
    bool: "bool", int: "int", float: "float", str: "str", list: "list", dict: "dict", Path: "str",
}  # fmt: skip
# Top-level keys that hold a plain value: DeepSpeed checks none of their types.
_SCALARS: dict[str, list[str]] = {
    "bool": [
        "disable_allgather", "disable_python_gc", "dump_state", "dataloader_drop_last",
        "managed_gradient_accumulation", "memory_breakdown", "prescale_gradients",
        "use_data_before_expert_parallelism", "wall_clock_breakdown", "zero_allow_untested_optimizer",
        "zero_force_ds_cpu_optimizer",
    ],
    "int": [
        "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "steps_per_print",
        "vocabulary_size", "sequence_parallel_size",
    ],
    "float": ["gradient_clipping", "gradient_predivide_factor"],
    "str": [
        "communication_data_type", "seq_parallel_communication_data_type", "gradient_allreduce_op", "log_level",
    ],
}  # fmt: skip
_CHOICES = {
    "communication_data_type": ["fp16", "bf16", "fp32"],
    "seq_parallel_communication_data_type": ["fp16", "bf16", "fp32"],
    "gradient_allreduce_op": ["mean", "sum"],
    "log_level": ["debug", "info", "warning", "error", "critical"],
}
_BOUNDS: dict[str, dict[str, float]] = {
    "train_batch_size": {"min": 1}, "train_micro_batch_size_per_gpu": {"min": 1},
    "gradient_accumulation_steps": {"min": 1}, "gradient_clipping": {"min": 0}, "steps_per_print": {"min": 1},
    "gradient_predivide_factor": {"above": 0}, "sequence_parallel_size": {"min": 1},
}  # fmt: skip
_HERE = ("self", "params", "optimizer", "last_batch_iteration")


class _Asked(dict[str, Any]):
    """A mapping that remembers which keys were asked for."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.keys_asked: set[str] = set()

    def __copy__(self) -> _Asked:
        return self

    def get(self, key: str, default: Any = None) -> Any:
        self.keys_asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.keys_asked.add(str(key))
        return super().__contains__(key)

    def keys(self) -> Any:
        return self  # so that `in` is asked of us

    def __getitem__(self, key: str) -> Any:
        self.keys_asked.add(key)
        return super().__getitem__(key)


def read_keys() -> tuple[set[str], dict[str, set[str]]]:
    """Keys that DeepSpeed's reader asks for: at the top, and within blocks that have no model."""
    from deepspeed.runtime.config import DeepSpeedConfig

    blocks = {
        name: _Asked({}) for name in ("activation_checkpointing", "flops_profiler", "data_types", "aio")
    }
    top = _Asked({"train_batch_size": 1, **blocks})
    DeepSpeedConfig(top)
    # The reader has a deprecated name for bf16, and asks for what is no longer supported in order to refuse it.
    return top.keys_asked, {name: block.keys_asked for name, block in blocks.items()}


def describe_model(model: type[BaseModel]) -> dict[str, Any]:
    """Keys of a pydantic model: kinds, choices, bounds, nested keys, what replaces a deprecated one.

    A key without kinds may hold anything.
    """
    return {field.alias or name: _describe_field(field) for name, field in model.model_fields.items()}


def _describe_field(field: FieldInfo) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    kinds: set[str] = set()
    for part in _read_parts(field.annotation):
        at = get_origin(part) or part
        if at is type(None):
            entry["null"] = True
        elif at is Literal:
            entry["choices"] = list(get_args(part))
            kinds.add("str")
        elif not isinstance(at, type):
            continue
        elif issubclass(at, Enum):
            values = sorted({member.value for member in at}, key=str)
            entry["choices"] = values
            kinds.add("int" if isinstance(values[0], int) else "str")
        elif issubclass(at, BaseModel):
            entry["block"] = describe_model(at)
            kinds.add("dict")
        else:
            kinds |= {name for kind, name in _KINDS.items() if at is kind}
    for rule in field.metadata:
        for attribute, name in (("ge", "min"), ("gt", "above"), ("le", "max"), ("lt", "below")):
            if hasattr(rule, attribute):
                entry[name] = getattr(rule, attribute)
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("deprecated"):
        entry["deprecated"] = extra.get("new_param", "")
    return {"kinds": sorted(kinds), **entry}


def _read_parts(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [part for each in get_args(annotation) for part in _read_parts(each)]
    return [annotation]


def _describe_asked(keys: set[str]) -> dict[str, Any]:
    return {key: {"kinds": []} for key in sorted(keys)}


def read_parameters(function: Any) -> list[str]:
    """Names of what a constructor takes, without what DeepSpeed gives it."""
    return sorted(name for name in inspect.signature(function).parameters if name not in _HERE)


def build() -> dict[str, Any]:
    """The whole table."""
    import torch
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.compile.config import CompileConfig
    from deepspeed.monitor.config import CometConfig, CSVConfig, TensorBoardConfig, WandbConfig
    from deepspeed.runtime import lr_schedules
    from deepspeed.runtime.config import (
        _REMOVED_TOP_LEVEL_CONFIG_KEYS,
        _REMOVED_ZERO_CONFIG_KEYS,
        DEEPSPEED_OPTIMIZERS,
        HybridEngineConfig,
    )
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.tensor_parallel.config import TPTrainingConfig
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from torch.optim import SGD, Adagrad, AdamW, RMSprop

    models: dict[str, Any] = {
        "bf16": DeepSpeedBF16Config, "comet": CometConfig, "comms_logger": CommsLoggerConfig,
        "compile": CompileConfig, "csv_monitor": CSVConfig, "fp16": DeepSpeedFP16Config,
        "hybrid_engine": HybridEngineConfig, "tensor_parallel": TPTrainingConfig,
        "tensorboard": TensorBoardConfig, "wandb": WandbConfig, "zero_optimization": DeepSpeedZeroConfig,
    }  # fmt: skip
    asked, inner = read_keys()
    top: dict[str, Any] = {key: {"kinds": ["dict"]} for key in sorted(asked - {"bfloat16"})}
    for kind, names in _SCALARS.items():
        top.update({name: {"kinds": [kind]} for name in names})
    for name, choices in _CHOICES.items():
        top[name]["choices"] = choices
    for name, bounds in _BOUNDS.items():
        top[name].update(bounds)
    for name, model in models.items():
        top[name]["block"] = describe_model(model)
    for name, keys in inner.items():
        top[name]["block"] = _describe_asked(keys)
    top["torch_autocast"]["block"] = {
        "enabled": {"kinds": ["bool"]},
        "dtype": {"kinds": ["str"]},
        "lower_precision_safe_modules": {"kinds": ["list"]},
    }
    for name in ("optimizer", "scheduler"):
        top[name]["block"] = {"type": {"kinds": ["str"]}, "params": {"kinds": ["dict"]}}
    top["optimizer"]["block"]["legacy_fusion"] = {"kinds": ["bool"]}
    removed = set(_REMOVED_TOP_LEVEL_CONFIG_KEYS)
    adam = sorted({*read_parameters(AdamW), "torch_adam", "adam_w_mode", "fp32_optimizer_states"})
    return {
        "deepspeed": version("deepspeed"),
        "torch": torch.__version__.split("+")[0],
        "keys": {key: value for key, value in top.items() if key not in removed},
        "removed": sorted(removed),
        "removed_zero": sorted(_REMOVED_ZERO_CONFIG_KEYS),
        "own_optimizers": sorted(DEEPSPEED_OPTIMIZERS),
        "optimizers": {
            "Adagrad": read_parameters(Adagrad), "Adam": adam, "AdamW": adam,
            "RMSprop": read_parameters(RMSprop), "SGD": read_parameters(SGD),
        },
        "schedulers": {
            name: read_parameters(getattr(lr_schedules, name)) for name in lr_schedules.VALID_LR_SCHEDULES
        },
    }  # fmt: skip


def render(table: dict[str, Any]) -> str:
    """The file's text."""
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(build()), encoding="utf-8")
