"""What a value of training.args may be, beyond its kind: bounds, choices, and what belongs together.

Each entry was tried: outside of it transformers or torch fail, or do something else than what was asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.workloads.problem import Refused


@dataclass(frozen=True, slots=True)
class Bound:
    """A range of numbers; `above` and `below` are outside of it, `least` and `most` within."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def find_problem(self, value: float) -> str | None:
        """What is wrong with the value, as the rest of a sentence."""
        inside = (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )
        return None if inside else f"must be {self.describe()}, not {value}"

    def describe(self) -> str:
        """As "at least 0 and below 1"."""
        parts = (
            ("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below),
        )  # fmt: skip
        return " and ".join(f"{words} {bound:g}" for words, bound in parts if bound is not None)


UNSIGNED = Bound(least=0)
POSITIVE = Bound(above=0)
COUNT = Bound(least=1)
SHARE = Bound(least=0, most=1)
_BELOW_ONE = Bound(least=0, below=1)

BOUNDS: dict[str, Bound] = {
    "adam_beta1": _BELOW_ONE,
    "adam_beta2": _BELOW_ONE,
    "adam_epsilon": POSITIVE,  # 0 divides by 0 where a gradient is 0: the loss is NaN after a step
    "dataloader_num_workers": Bound(least=0, most=256),
    "dataloader_prefetch_factor": COUNT,
    "ddp_timeout": COUNT,
    "eval_delay": UNSIGNED,
    "label_smoothing_factor": _BELOW_ONE,
    "logging_steps": POSITIVE,
    "max_grad_norm": UNSIGNED,  # 0 doesn't clip; below it DeepSpeed silently doesn't either
    "neftune_noise_alpha": POSITIVE,
    "per_device_eval_batch_size": Bound(least=1, most=65_536),
    "torch_empty_cache_steps": COUNT,
}
_LEVELS = ("debug", "info", "warning", "error", "critical", "passive")
CHOICES: dict[str, tuple[str, ...]] = {
    "dataloader_multiprocessing_context": ("fork", "forkserver", "spawn"),
    "include_num_input_tokens_seen": ("all", "non_padding", "no"),
    "log_level": _LEVELS,
    "log_level_replica": _LEVELS,
    "train_sampling_strategy": ("random", "sequential", "group_by_length"),
}
# What is read only where another one is set.
NEEDS: dict[str, tuple[str, str]] = {
    "dataloader_multiprocessing_context": ("dataloader_num_workers", "1 or more"),
    "dataloader_persistent_workers": ("dataloader_num_workers", "1 or more"),
    "dataloader_prefetch_factor": ("dataloader_num_workers", "1 or more"),
    "gradient_checkpointing_kwargs": ("gradient_checkpointing", "true"),
    "activation_checkpointing_kwargs": ("activation_checkpointing", "true"),
    "liger_kernel_config": ("use_liger_kernel", "true"),
}
_ALIASES = {"gradient_checkpointing": "activation_checkpointing"}
_CHECKPOINTING = ("use_reentrant", "preserve_rng_state", "determinism_check", "early_stop", "debug")


def check_bounds(args: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """`args` in snake_case; `names` as the user wrote them. Raises Refused (InvalidArgument)."""
    for name, value in args.items():
        where = f"spec.training.args.{names[name]}"
        if name in BOUNDS and isinstance(value, int | float) and not isinstance(value, bool):
            problem = BOUNDS[name].find_problem(value)
            if problem:
                raise Refused("InvalidArgument", f"{where} {problem}{_advise(name)}.")
        if name in CHOICES and isinstance(value, str) and value not in CHOICES[name]:
            raise Refused(
                "InvalidArgument",
                f"{where} must be one of {', '.join(CHOICES[name])}, not {json.dumps(value)}.",
            )
        if name in NEEDS and value and not _is_set(args, NEEDS[name][0]):
            needed, what = NEEDS[name]
            raise Refused(
                "InvalidArgument",
                f"{where} is read only with {needed}: set spec.training.args.{needed} to {what}, or remove it.",
            )
    steps = args.get("logging_steps")
    if isinstance(steps, float) and steps > 1 and not steps.is_integer():
        raise Refused(
            "InvalidArgument",
            f"spec.training.args.{names['logging_steps']} {steps} must be a whole number, or a fraction of all steps"
            " below 1.",
        )
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        given = args.get(name)
        for key in given if isinstance(given, dict) else ():
            if key not in _CHECKPOINTING:
                raise Refused(
                    "InvalidArgument",
                    f"spec.training.args.{names[name]}.{key} is no option of torch's checkpoint; it takes"
                    f" {', '.join(_CHECKPOINTING)}.",
                )


def _is_set(args: Mapping[str, Any], name: str) -> bool:
    twins = {name, _ALIASES.get(name, name), *(old for old, new in _ALIASES.items() if new == name)}
    return any(args.get(each) for each in twins)


def _advise(name: str) -> str:
    return {
        "max_grad_norm": "; 0 turns clipping off",
        "neftune_noise_alpha": "; leave it out for none",
        "logging_steps": "; logging_strategy: no turns logging off",
    }.get(name, "")
