"""spec.training.optim: which optimizers the trainer's image can run, and what each of them reads."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.workloads.problem import Refused

# Each one is built and stepped under every ZeRO stage by a test.
WORKING = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "rmsprop", "adagrad")
WITHOUT_ZERO = "adagrad"
# The beginning of the name -> the package that transformers asks for.
PACKAGES: dict[str, str] = {
    "adamw_torch_xla": "torch_xla",
    "adamw_torch_npu": "torch_npu",
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "adamw_anyprecision": "torchdistx",
    "adamw_bnb": "bitsandbytes",
    "adamw_8bit": "bitsandbytes",
    "ademamix": "bitsandbytes",
    "lion": "bitsandbytes",
    "paged": "bitsandbytes",
    "rmsprop_bnb": "bitsandbytes",
    "galore": "galore_torch",
    "apollo": "apollo_torch",
    "lomo": "lomo_optim",
    "adalomo": "lomo_optim",
    "grokadamw": "grokadamw",
    "schedule_free": "schedulefree",
    "stable_adamw": "torch-optimi",
}
LAYERWISE = "_layerwise"
NEED_TARGETS = ("galore", "apollo")
# What those that work read of optim_args; transformers ignores it for the others of them.
OPTIONS: dict[str, tuple[str, ...]] = {
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
}
_FLAGS = ("centered", "nesterov")
_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
_WITHOUT_ADAM = ("adafactor", "adagrad", "rmsprop", "sgd")


def find_package(name: str) -> str | None:
    """The package that an optimizer needs beside torch and transformers."""
    if name in WORKING:
        return None
    found = [package for start, package in PACKAGES.items() if name.startswith(start)]
    return found[0] if found else None


def check_optimizer(
    spec: TrainingJobSpec, args: Mapping[str, Any], choices: tuple[str, ...], stage: int, on_cpu: bool
) -> None:
    """`args` in snake_case; `choices` are all names of transformers. Raises Refused."""
    name = spec.training.optim
    if name not in choices:
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Refused("InvalidSpec", f"spec.training.optim {name!r} is unknown{hint}.")
    if not spec.builtin:
        return
    package = find_package(name)
    if package and spec.trainer.image is None:
        raise Refused(
            "InvalidArgument",
            f"spec.training.optim {name} needs the package {package}, which the trainer's image doesn't have: use"
            f" one of {', '.join(WORKING)}, or set spec.trainer.image to an image with it.",
        )
    if name.endswith(LAYERWISE):
        raise Refused(
            "InvalidArgument",
            f"spec.training.optim {name} can't train under DeepSpeed: use {name.removesuffix(LAYERWISE)}.",
        )
    if name.startswith(NEED_TARGETS) and not args.get("optim_target_modules"):
        raise Refused(
            "InvalidArgument",
            f"spec.training.optim {name} needs spec.training.args.optim_target_modules, as all-linear.",
        )
    if args.get("optim_target_modules") and not name.startswith(NEED_TARGETS):
        raise Refused(
            "InvalidArgument",
            f"spec.training.args.optim_target_modules has no effect on optim {name}: remove it.",
        )
    _check_options(name, args.get("optim_args"))
    if name in _WITHOUT_ADAM and spec.deepspeed.config is None:
        given = next((key for key in _ADAM if key in args), None)
        if given:
            raise Refused(
                "InvalidArgument", f"spec.training.args.{given} has no effect on optim {name}: remove it."
            )
    if name == WITHOUT_ZERO and "optimizer" not in (spec.deepspeed.config or {}):
        _check_adagrad(spec, stage, on_cpu)


def _check_adagrad(spec: TrainingJobSpec, stage: int, on_cpu: bool) -> None:
    # DeepSpeed builds torch's Adagrad anew and loses its groups of parameters.
    dtype = spec.model.dtype if spec.model is not None else "auto"
    if stage != 0:
        raise Refused(
            "InvalidArgument",
            f"spec.training.optim adagrad can't train under ZeRO stage {stage}: set spec.deepspeed.zeroStage to 0,"
            " or use rmsprop.",
        )
    if dtype == "bfloat16" or (dtype == "auto" and not on_cpu):
        raise Refused(
            "InvalidArgument",
            "spec.training.optim adagrad trains in float32 only: set spec.model.dtype to float32, or use rmsprop.",
        )


def _check_options(name: str, given: Any) -> None:
    where = "spec.training.args.optim_args"
    if not given or name not in WORKING:
        return
    takes = OPTIONS.get(name, ())
    if not takes:
        raise Refused("InvalidArgument", f"{where} has no effect on optim {name}: remove it.")
    for part in str(given).replace(" ", "").split(","):
        key, sign, value = part.partition("=")
        if not sign or key not in takes:
            raise Refused(
                "InvalidArgument",
                f"{where}: {part!r} is no option of {name}; write it as {takes[0]}=0.9, of {', '.join(takes)}.",
            )
        if key in _FLAGS:
            right = value.lower() in ("true", "false")
        else:
            right = _is_number(value)
        if not right:
            kind = "true or false" if key in _FLAGS else "a number"
            raise Refused("InvalidArgument", f"{where}: {key} must be {kind}, not {value!r}.")


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
