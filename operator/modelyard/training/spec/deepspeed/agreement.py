"""One rule for what both spec.training and spec.deepspeed.config can say.

Where both say it they must agree; what only the configuration says is taken over into the run, so that a
configuration copied from elsewhere trains with its own values; "auto" always leaves it to spec.training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.training.spec.arguments import to_snake
from modelyard.training.spec.deepspeed.schema import ROOT
from modelyard.training.spec.deepspeed.support import find
from modelyard.workloads.problem import Refused

# Names that choose the same: spec.training's, the first of which is taken over.
OPTIMIZERS = {
    "adam": ("adamw_torch", "adamw_torch_fused"),
    "adamw": ("adamw_torch", "adamw_torch_fused"),
    "adagrad": ("adagrad",),
    "SGD": ("sgd",),
    "RMSprop": ("rmsprop",),
}
SCHEDULERS = {
    "WarmupLR": "constant_with_warmup",
    "WarmupDecayLR": "linear",
    "WarmupCosineLR": "cosine",
    "OneCycle": "one_cycle",
}
# Dotted path in the configuration -> field of spec.training.
FIELDS = {
    "optimizer.params.lr": "learning_rate",
    "scheduler.params.warmup_max_lr": "learning_rate",
    "optimizer.params.weight_decay": "weight_decay",
    "scheduler.params.warmup_num_steps": "warmup_steps",
    "scheduler.params.total_num_steps": "max_steps",
    "train_batch_size": "global_batch_size",
    "train_micro_batch_size_per_gpu": "per_device_train_batch_size",
}
ARGUMENTS = {
    "optimizer.params.eps": "adam_epsilon",
    "gradient_clipping": "max_grad_norm",
}


class _Said:
    """What is said so far, and where."""

    def __init__(self, spec: TrainingJobSpec) -> None:
        training = spec.training
        self.fields: dict[str, Any] = {name: getattr(training, name) for name in training.model_fields_set}
        self.arguments = {to_snake(name): value for name, value in training.args.items()}
        self.where = {name: f"spec.training.{to_camel(name)}" for name in self.fields}
        self.where |= {to_snake(name): f"spec.training.args.{name}" for name in training.args}

    def take(self, values: dict[str, Any], name: str, value: Any, path: str) -> None:
        """Takes a value over, or refuses it if another one stands."""
        if name in self.where and values.get(name) is not None:
            if values[name] != value:
                _contradict(path, value, self.where[name], values[name])
            return
        values[name] = value
        self.where[name] = f"{ROOT}.{path}"


def take_over(spec: TrainingJobSpec, processes: int) -> TrainingJobSpec:
    """The spec with what only spec.deepspeed.config says. Raises Refused (InvalidSpec) naming both paths."""
    config = spec.deepspeed.config
    said = _Said(spec)
    if config is not None:
        for path, name, value in _read(config, FIELDS):
            said.take(said.fields, name, value, path)
        for path, name, value in _read(config, ARGUMENTS):
            said.take(said.arguments, name, value, path)
        betas = find(config, "optimizer.params.betas")
        if isinstance(betas, list):
            if len(betas) != 2:
                raise Refused("InvalidSpec", f"{ROOT}.optimizer.params.betas must be two numbers.")
            for name, value in zip(("adam_beta1", "adam_beta2"), betas, strict=True):
                said.take(said.arguments, name, value, "optimizer.params.betas")
        _take_names(config, said)
        _take_accumulation(config, said, processes)
        if said.fields.get("max_steps") is not None and said.fields.get("num_train_epochs") is not None:
            _contradict(
                "scheduler.params.total_num_steps", said.fields["max_steps"],
                "spec.training.numTrainEpochs", said.fields["num_train_epochs"],
            )  # fmt: skip
    spec = _take_precision(spec, config or {}, said)
    if config is None:
        return spec
    return spec.model_copy(update={"training": _build_training(spec, said)})


def _read(config: dict[str, Any], pairs: dict[str, str]) -> Iterator[tuple[str, str, Any]]:
    for path, name in pairs.items():
        value = find(config, path)
        if value is not None and value != "auto":
            yield path, name, value


def _take_names(config: dict[str, Any], said: _Said) -> None:
    optimizer = find(config, "optimizer.type")
    if optimizer is not None:
        plain = str(optimizer).lower() == "adam" and find(config, "optimizer.params.adam_w_mode") is False
        names = () if plain else OPTIMIZERS.get(str(optimizer), OPTIMIZERS.get(str(optimizer).lower(), ()))
        written = said.fields.get("optim")
        if written is not None and written not in names:
            _contradict("optimizer.type", optimizer, said.where["optim"], written)
        if names and written is None:
            said.take(said.fields, "optim", names[0], "optimizer.type")
    scheduler = find(config, "scheduler.type")
    if scheduler is not None:
        same = SCHEDULERS.get(str(scheduler))
        written = said.fields.get("lr_scheduler_type")
        if written is not None and written != same:
            _contradict("scheduler.type", scheduler, said.where["lr_scheduler_type"], written)
        if "lr_scheduler_kwargs" in said.arguments:
            raise Refused(
                "InvalidSpec",
                f"{said.where['lr_scheduler_kwargs']} isn't read where {ROOT}.scheduler is set: keep one.",
            )
        if same is not None:
            said.take(said.fields, "lr_scheduler_type", same, "scheduler.type")


def _take_accumulation(config: dict[str, Any], said: _Said, processes: int) -> None:
    """gradient_accumulation_steps follows from two batch sizes; it gives the third, or must fit."""
    path = "gradient_accumulation_steps"
    steps = config.get(path)
    if steps is None or steps == "auto":
        return
    total, per_device = said.fields.get("global_batch_size"), said.fields.get("per_device_train_batch_size")
    if per_device is None and total is not None and total % (steps * processes) == 0:
        said.take(said.fields, "per_device_train_batch_size", total // (steps * processes), path)
    elif per_device is not None and total is None:
        said.take(said.fields, "global_batch_size", per_device * steps * processes, path)
    elif per_device is None or total != per_device * steps * processes:
        raise Refused(
            "InvalidSpec",
            f"{ROOT}.{path} {steps} doesn't fit: spec.training.globalBatchSize = perDeviceTrainBatchSize x"
            f" processes ({processes}) x accumulation steps. Remove it, or set both of spec.training to what fits.",
        )


def _take_precision(spec: TrainingJobSpec, config: dict[str, Any], said: _Said) -> TrainingJobSpec:
    """bf16, fp16 and model.dtype say the same thing in five places."""
    dtype = spec.model.dtype if spec.model is not None else "auto"
    stands: list[tuple[str, Any, str]] = [] if dtype == "auto" else [("spec.model.dtype", dtype, dtype)]
    for kind, name in (("bf16", "bfloat16"), ("fp16", "float16")):
        for where, value in (
            (f"{ROOT}.{kind}.enabled", find(config, f"{kind}.enabled")),
            (said.where.get(kind, ""), said.arguments.get(kind)),
        ):
            if isinstance(value, bool):
                stands.append((where, value, name if value else f"not {name}"))
    for number, (where, value, meaning) in enumerate(stands):
        for other, standing, meant in stands[:number]:
            if _exclude(meaning, meant):
                raise Refused(
                    "InvalidSpec",
                    f"{where} {json.dumps(value)} contradicts {other} {json.dumps(standing)}: change one of them.",
                )
    meanings = {meaning for _, _, meaning in stands}
    if spec.model is None or dtype != "auto" or "float16" in meanings:
        return spec
    if "bfloat16" in meanings or "not bfloat16" in meanings:
        chosen = "bfloat16" if "bfloat16" in meanings else "float32"
        return spec.model_copy(update={"model": spec.model.model_copy(update={"dtype": chosen})})
    return spec


def _exclude(one: str, other: str) -> bool:
    if one.startswith("not ") and other.startswith("not "):
        return False
    if one.startswith("not ") or other.startswith("not "):
        return one == f"not {other}" or other == f"not {one}"
    return one != other


def _build_training(spec: TrainingJobSpec, said: _Said) -> Any:
    training = spec.training
    values = {**said.fields, "args": said.arguments}
    try:
        return type(training).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = to_snake(str(first["loc"][0]))
        raise Refused("InvalidSpec", f"{said.where.get(name, name)}: {first['msg']}.") from error


def _contradict(path: str, value: Any, other: str, standing: Any) -> NoReturn:
    raise Refused(
        "InvalidSpec",
        f"{ROOT}.{path} {json.dumps(value)} contradicts {other} {json.dumps(standing)}: change one of them, or"
        f' set {path.rsplit(".", 1)[-1]} to "auto".'
        if not path.endswith("type")
        else f"{ROOT}.{path} {json.dumps(value)} contradicts {other} {json.dumps(standing)}: remove one of them.",
    )
