"""The keys of a DeepSpeed configuration: which there are, in which block, and what they may hold.

DeepSpeed itself ignores what it doesn't know at the top, and turns "2" into 2 where transformers doesn't.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NoReturn

from modelyard.training.spec.bounds import Bound
from modelyard.workloads.problem import Refused

ROOT = "spec.deepspeed.config"
_FIELDS = Mapping[str, Mapping[str, Any]]
# Outside of blocks with a model of their own, transformers fills in these only.
_AUTO = frozenset(
    {
        "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
        "optimizer.params.lr", "optimizer.params.betas", "optimizer.params.eps", "optimizer.params.weight_decay",
        "scheduler.params.warmup_min_lr", "scheduler.params.warmup_max_lr", "scheduler.params.warmup_num_steps",
        "scheduler.params.total_num_steps",
    }
)  # fmt: skip
_MODELLED = frozenset(
    {
        "bf16", "comet", "comms_logger", "compile", "csv_monitor", "fp16", "hybrid_engine", "tensor_parallel",
        "tensorboard", "wandb", "zero_optimization",
    }
)  # fmt: skip
_OTHER_NAMES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "max_grad_norm": "gradient_clipping",
    "zero": "zero_optimization",
}
_FEW = 12  # keys that a message can list
_NEVER_AUTO = "zero_optimization.stage"
_KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int": (int,), "float": (int, float), "str": (str,), "list": (list,), "dict": (dict,),
}  # fmt: skip
_WORDS = {
    "bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string", "list": "a list",
    "dict": "a block of keys",
}  # fmt: skip
_PARAMETERS: dict[str, list[str]] = {
    "lr": ["float"], "weight_decay": ["float"], "eps": ["float"], "betas": ["list"], "torch_adam": ["bool"],
    "adam_w_mode": ["bool"], "warmup_num_steps": ["int"], "total_num_steps": ["int"], "warmup_max_lr": ["float"],
    "warmup_min_lr": ["float"], "warmup_type": ["str"], "momentum": ["float"], "nesterov": ["bool"],
}  # fmt: skip
_PARAMETER_BOUNDS: dict[str, dict[str, float]] = {
    "lr": {"above": 0}, "weight_decay": {"min": 0}, "eps": {"above": 0}, "warmup_num_steps": {"min": 1},
    "total_num_steps": {"min": 1}, "warmup_max_lr": {"above": 0}, "warmup_min_lr": {"min": 0},
}  # fmt: skip


@cache
def read_schema() -> Mapping[str, Any]:
    """What DeepSpeed's own models and torch's optimizers take, as a table."""
    text = files("modelyard.training.spec.deepspeed").joinpath("deepspeed.json").read_text(encoding="utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


def check_keys(config: Mapping[str, Any]) -> None:
    """Names, blocks, kinds, choices and bounds. Raises Refused (InvalidSpec)."""
    _check_block(config, read_schema()["keys"], "")
    for block, table in (("optimizer", "optimizers"), ("scheduler", "schedulers")):
        if block in config:
            _check_parameters(config[block], block, read_schema()[table])


def _check_block(values: Mapping[str, Any], fields: _FIELDS, path: str) -> None:
    for key, value in values.items():
        at = f"{path}.{key}" if path else key
        field = fields.get(key)
        if field is None:
            _refuse_unknown(key, at, fields)
        if "deprecated" in field:
            new = field["deprecated"].replace("gather_16bit", "stage3_gather_16bit", 1)
            instead = f"use {new}" if new else "remove it"
            _refuse(at, f"is deprecated in DeepSpeed: {instead}")
        _check_value(value, field, at)
        if isinstance(value, dict) and field.get("block"):
            _check_block(value, field["block"], at)


def _check_value(value: Any, field: Mapping[str, Any], at: str) -> None:
    if value == "auto" and at != _NEVER_AUTO:
        if at in _AUTO or (at.split(".")[0] in _MODELLED and "." in at) or "auto" in field.get("choices", ()):
            return
        if field["kinds"] and "str" not in field["kinds"]:
            _refuse(at, 'can\'t be "auto": nothing fills it in; set a value, or remove it')
    if value is None and (field.get("null") or "." not in at):
        return
    kinds: list[str] = field["kinds"]
    if kinds and not _is_any(value, kinds):
        words = " or ".join(_WORDS[kind] for kind in kinds)
        hint = _suggest(value, kinds)
        _refuse(at, f"must be {words}, not {json.dumps(value)[:80]}{hint}")
    choices = field.get("choices")
    if choices and value not in choices:
        _refuse(at, f"must be one of {', '.join(map(str, choices))}, not {json.dumps(value)[:80]}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        bound = Bound(field.get("min"), field.get("above"), field.get("max"), field.get("below"))
        problem = bound.find_problem(value)
        if problem:
            _refuse(at, problem)


def _check_parameters(block: Mapping[str, Any], path: str, table: Mapping[str, list[str]]) -> None:
    kind = block.get("type")
    if kind is None:
        _refuse(path, "needs type, as AdamW" if path == "optimizer" else "needs type, as WarmupDecayLR")
    names: dict[str, str] = {name: name for name in table}
    if path == "optimizer":
        names |= {name.lower(): name for name in table if name.lower() in read_schema()["own_optimizers"]}
    known = names.get(str(kind)) or (names.get(str(kind).lower()) if path == "optimizer" else None)
    if known is None:
        if path == "optimizer" and str(kind).lower() in read_schema()["own_optimizers"]:
            return  # DeepSpeed's own, whose parameters only its compiled kernels know
        near = difflib.get_close_matches(str(kind).lower(), [name.lower() for name in table], n=1, cutoff=0.5)
        found = next((name for name in table if near and name.lower() == near[0]), None)
        _refuse(
            f"{path}.type",
            f"{kind!r} is none of {', '.join(table)}; "
            + (f"did you mean {found}?" if found else "use one of these"),
        )
    for key, value in (block.get("params") or {}).items():
        at = f"{path}.params.{key}"
        if key == "max_grad_norm":
            _refuse(at, "is no parameter of an optimizer: set spec.training.args.max_grad_norm")
        if key not in table[known]:
            near = difflib.get_close_matches(key, table[known], n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(table[known])}"
            _refuse(at, f"is no parameter of {known}; {hint}")
        if key in _PARAMETERS:
            _check_value(value, {"kinds": _PARAMETERS[key], **_PARAMETER_BOUNDS.get(key, {})}, at)
        if key == "betas" and isinstance(value, list):
            for beta in value:
                _check_value(beta, {"kinds": ["float"], "min": 0, "below": 1}, at)


def _refuse_unknown(key: str, at: str, fields: _FIELDS) -> NoReturn:
    if key in _OTHER_NAMES and "." not in at:
        _refuse(at, f"is not read by DeepSpeed; use {_OTHER_NAMES[key]}")
    places = [path for path in _all_keys() if path.rsplit(".", 1)[-1] == key]
    if 0 < len(places) <= 4:
        home = " or ".join(places)
        _refuse(at, f"is in the wrong block, where DeepSpeed ignores or refuses it: it belongs at {home}")
    if f"stage3_{key}" in fields:  # DeepSpeed takes both, the Trainer looks for one
        _refuse(
            at, f"is a name that only DeepSpeed itself reads; use stage3_{key}, which the Trainer reads too"
        )
    near = difflib.get_close_matches(key, list(fields), n=1, cutoff=0.6)
    if near:
        _refuse(at, f"is unknown to DeepSpeed; did you mean {near[0]}?")
    everywhere = {path.rsplit(".", 1)[-1]: path for path in _all_keys()}
    far = difflib.get_close_matches(key, list(everywhere), n=1, cutoff=0.75)
    if far:
        _refuse(at, f"is unknown to DeepSpeed; did you mean {everywhere[far[0]]}?")
    there = f", which has {', '.join(fields)} here" if len(fields) <= _FEW else ""
    _refuse(at, f"is unknown to DeepSpeed{there}: remove it")


@cache
def _all_keys() -> tuple[str, ...]:
    def walk(fields: _FIELDS, path: str) -> Iterator[str]:
        for key, field in fields.items():
            at = f"{path}.{key}" if path else key
            yield at
            yield from walk(field.get("block", {}), at)

    more = [f"optimizer.params.{name}" for name in ("lr", "betas", "eps", "weight_decay", "momentum")]
    more += [f"scheduler.params.{name}" for name in read_schema()["schedulers"]["WarmupDecayLR"]]
    return (*walk(read_schema()["keys"], ""), *more)


def _is_any(value: Any, kinds: list[str]) -> bool:
    if isinstance(value, bool):  # bool is an int to Python
        return "bool" in kinds
    if isinstance(value, float) and value.is_integer() and "int" in kinds:
        return True  # 5e8, as JSON may write 500000000
    return any(isinstance(value, _KINDS[kind]) for kind in kinds)


def _suggest(value: Any, kinds: list[str]) -> str:
    if isinstance(value, str):
        for kind, read in (("int", int), ("float", float)):
            if kind in kinds:
                try:
                    return f"; write {read(value)} without quotes"
                except ValueError:
                    continue
        if "bool" in kinds and value.lower() in ("true", "false"):
            return f"; write {value.lower()} without quotes"
    return ""


def _refuse(at: str, what: str) -> NoReturn:
    raise Refused("InvalidSpec", f"{ROOT}.{at} {what}" + ("" if what.endswith("?") else "."))
