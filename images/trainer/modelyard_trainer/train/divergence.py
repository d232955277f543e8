"""Ends a run whose loss is no number: it never becomes one again, and every further hour is wasted."""

from __future__ import annotations

import math
from typing import Any

from modelyard_models.failure import Failure
from transformers import TrainerCallback


class DivergenceGuard(TrainerCallback):  # type: ignore[misc]
    """Looks at the logged loss, which is the mean over all ranks and so the same on each of them."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Raises Failure (LossNaN)."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise Failure(
                "LossNaN",
                f"the training loss is {loss} at step {state.global_step}; lower training.learningRate, "
                "add warmupSteps, "
                "or use model.dtype float32",
            )
