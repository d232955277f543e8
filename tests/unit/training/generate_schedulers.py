"""Writes operator/modelyard/training/spec/schedulers.json from transformers, torch and our own schedules.

    python -m tests.unit.training.generate_schedulers

The options that each schedule of spec.training.lrSchedulerType takes, with their kinds.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from modelyard.api.hyperparameters import SCHEDULERS

TARGET = Path(__file__).parents[3] / "operator/modelyard/training/spec/schedulers.json"
_GIVEN = (
    "optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "steps", "learning_rate", "verbose",
)  # fmt: skip


def read_options(function: Any) -> dict[str, list[str]]:
    """Names and kinds of what a user may set; the kind of an unannotated option is its default's."""
    options: dict[str, list[str]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in _GIVEN or parameter.kind is parameter.VAR_KEYWORD:
            continue
        words = set(re.findall(r"int|float|str|list|Literal", str(parameter.annotation)))
        if not words:
            words = {type(parameter.default).__name__}
        options[name] = sorted({"str" if word == "Literal" else word for word in words})
    return options


def build() -> dict[str, Any]:
    """The whole table."""
    from modelyard_trainer.train.schedules import OWN_SCHEDULES
    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    functions: dict[str, Any] = {str(name.value): made for name, made in TYPE_TO_SCHEDULER_FUNCTION.items()}
    functions |= OWN_SCHEDULES | {"reduce_lr_on_plateau": ReduceLROnPlateau}
    return {name: read_options(functions[name]) for name in SCHEDULERS}


def render(table: dict[str, Any]) -> str:
    """The file's text."""
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(build()), encoding="utf-8")
