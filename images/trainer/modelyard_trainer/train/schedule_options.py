"""lr_scheduler_kwargs, completed: what a schedule must be told and transformers leaves to the user."""

from __future__ import annotations

import math
from typing import Any

from modelyard.contract.run import GateInput, TrainingInput
from modelyard_models.failure import Failure

MIN_LR_RATE = 0.1
DECAY_SHARE = 0.1


def complete_options(training: TrainingInput, gate: GateInput | None, max_steps: int) -> dict[str, Any]:
    """The options of the run's schedule; what the user said stays. Raises Failure (InvalidArgument).

    - cosine_with_min_lr and cosine_warmup_with_min_lr end at a tenth of the peak, as in Hoffmann et al.,
      Training Compute-Optimal Large Language Models (2022). A `min_lr` becomes a share of the peak here,
      since DeepSpeed's optimizers don't know theirs.
    - warmup_stable_decay decays over the last tenth of the steps, as in Hu et al., MiniCPM (2024).
    - reduce_lr_on_plateau waits for the gate's metric in the gate's direction.
    - polynomial ends at an absolute rate, and is told the peak.
    """
    given = training.args.get("lr_scheduler_kwargs") or {}
    name = training.lr_scheduler_type
    if not isinstance(given, dict):
        raise Failure("InvalidArgument", "training.args.lr_scheduler_kwargs must be a mapping")
    options = dict(given)
    if name in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        if options.get("min_lr") is not None and options.get("min_lr_rate") is None:
            options["min_lr_rate"] = options.pop("min_lr") / training.learning_rate
        elif options.get("min_lr_rate") is None:
            options["min_lr_rate"] = MIN_LR_RATE
    elif name == "warmup_stable_decay":
        left = max_steps - count_warmup(training, max_steps)
        decay = options.setdefault("num_decay_steps", max(1, min(left, round(DECAY_SHARE * max_steps))))
        if decay > max(1, left):
            raise Failure(
                "InvalidArgument",
                f"training.args.lr_scheduler_kwargs.num_decay_steps {decay} is more than the {left} steps after"
                " the warm-up; lower it, or leave it out for a tenth of all steps",
            )
    elif name == "reduce_lr_on_plateau":
        options.setdefault("mode", "max" if gate is not None and gate.max is None else "min")
    elif name == "polynomial":
        options["learning_rate"] = training.learning_rate
    return options


def count_warmup(training: TrainingInput, max_steps: int) -> int:
    """Steps of warm-up, as transformers counts them: below 1 a fraction of all steps, rounded up."""
    steps = training.warmup_steps
    return int(steps) if steps >= 1 else math.ceil(max_steps * steps)
