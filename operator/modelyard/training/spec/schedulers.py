"""spec.training.lrSchedulerType: which options each schedule takes, and what it needs besides."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.training.spec.bounds import POSITIVE, SHARE, UNSIGNED, Bound
from modelyard.workloads.problem import Refused

FOLLOWS_EVALUATIONS = "reduce_lr_on_plateau"
WITHOUT_WARMUP = {"constant": "use constant_with_warmup", FOLLOWS_EVALUATIONS: "it follows the evaluations"}
_WSD_SHAPES = ("linear", "cosine", "1-sqrt")
_CHOICES: dict[str, tuple[str, ...]] = {
    "warmup_type": _WSD_SHAPES,
    "decay_type": _WSD_SHAPES,
    "mode": ("min", "max"),
    "threshold_mode": ("rel", "abs"),
}
_BOUNDS: dict[str, Bound] = {
    "cooldown": UNSIGNED, "cycles": POSITIVE, "div_factor": POSITIVE, "eps": UNSIGNED,
    "factor": Bound(above=0, below=1), "final_div_factor": POSITIVE, "lr_end": UNSIGNED, "min_factor": SHARE,
    "min_lr": UNSIGNED, "min_lr_rate": SHARE, "min_lr_ratio": SHARE, "num_cycles": POSITIVE,
    "num_decay_steps": UNSIGNED, "num_stable_steps": UNSIGNED, "patience": UNSIGNED,
    "pct_start": Bound(above=0, below=1), "power": POSITIVE, "threshold": UNSIGNED, "timescale": POSITIVE,
    "warmup_lr_rate": SHARE,
}  # fmt: skip
_WHERE = "spec.training.args.lr_scheduler_kwargs"
_KINDS: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "list": (list,), "str": (str,)}


@cache
def read_options() -> Mapping[str, Mapping[str, list[str]]]:
    """Per schedule: its options and their kinds."""
    text = files("modelyard.training.spec").joinpath("schedulers.json").read_text(encoding="utf-8")
    table: Mapping[str, Mapping[str, list[str]]] = json.loads(text)
    return table


def check_scheduler(spec: TrainingJobSpec, args: Mapping[str, Any]) -> None:
    """`args` in snake_case. Raises Refused (InvalidArgument) with what the schedule takes."""
    training = spec.training
    name = training.lr_scheduler_type
    if training.warmup_steps and name in WITHOUT_WARMUP:
        _refuse(
            "spec.training.warmupSteps",
            f"has no effect on lrSchedulerType {name}: {WITHOUT_WARMUP[name]}, or remove it",
        )
    if name == FOLLOWS_EVALUATIONS and spec.data is not None and spec.data.split.validation == 0:
        _refuse(
            "spec.training.lrSchedulerType",
            f"{name} needs a validation split: set spec.data.split.validation above 0",
        )
    given = args.get("lr_scheduler_kwargs")
    if given is None:
        given = {}
    if not isinstance(given, dict):
        _refuse(_WHERE, "must be a mapping, as {num_cycles: 2}")
    for option, value in given.items():
        _check_option(name, option, value)
    _check_together(spec, given)


def _check_option(name: str, option: str, value: Any) -> None:
    takes = read_options()[name]
    where = f"{_WHERE}.{option}"
    if option not in takes:
        near = difflib.get_close_matches(option, list(takes), n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        _refuse(where, f"is no option of {name}, which takes {', '.join(takes) or 'none'}{hint}")
    kinds = takes[option]
    fits = any(isinstance(value, _KINDS[kind]) for kind in kinds) and not isinstance(value, bool)
    if isinstance(value, float) and "float" not in kinds:
        fits = "int" in kinds and value.is_integer()
    if not fits:
        _refuse(where, f"must be {' or '.join(kinds)}, not {json.dumps(value)[:80]}")
    if option in _CHOICES and value not in _CHOICES[option]:
        _refuse(where, f"must be one of {', '.join(_CHOICES[option])}, not {json.dumps(value)}")
    if option in _BOUNDS and isinstance(value, int | float):
        problem = _BOUNDS[option].find_problem(value)
        if problem:
            _refuse(where, problem)


def _check_together(spec: TrainingJobSpec, given: Mapping[str, Any]) -> None:
    training = spec.training
    if given.get("min_lr") is not None and given.get("min_lr_rate") is not None:
        _refuse(f"{_WHERE}.min_lr", "and min_lr_rate say the same thing twice; keep one")
    peak = training.learning_rate
    if training.lr_scheduler_type == "polynomial" and given.get("lr_end", 1e-7) >= peak:
        _refuse(
            f"{_WHERE}.lr_end",
            f"{given.get('lr_end', 1e-7)} must be below spec.training.learningRate {peak}; lower it",
        )
    lowest = given.get("min_lr")
    if isinstance(lowest, int | float) and lowest > peak:
        _refuse(f"{_WHERE}.min_lr", f"{lowest} is above spec.training.learningRate {peak}; lower it")
    decay, steps = given.get("num_decay_steps"), training.max_steps
    if decay is not None and steps is not None and decay > steps:
        _refuse(f"{_WHERE}.num_decay_steps", f"{decay} is more than spec.training.maxSteps {steps}; lower it")


def _refuse(where: str, what: str) -> None:
    raise Refused("InvalidArgument", f"{where} {what}.")
