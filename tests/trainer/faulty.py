"""The train stage with one fault in it, named by FAULT: what it then says is the test's business."""

from __future__ import annotations

import os
import sys
from typing import Any

from modelyard_trainer.train.main import main


def _raise(error: Exception) -> Any:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


def _vanish_after(step: int, function: Any) -> Any:
    def go_on_or_vanish(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == step:
            os._exit(9)
        return function(trainer, *args, **kwargs)

    return go_on_or_vanish


def inject(fault: str) -> None:
    """Breaks one thing in this process."""
    from modelyard_trainer.tasks.generation import TextGeneration
    from modelyard_trainer.train import rehearsal
    from modelyard_trainer.train.trainer import RunTrainer

    faults: dict[str, list[tuple[Any, str, Any]]] = {
        "evaluation": [(RunTrainer, "evaluation_loop", _raise(KeyError("eval_perplexity")))],
        "saving": [(RunTrainer, "_save_optimizer_and_scheduler", _raise(TypeError("cannot pickle a file")))],
        "first step": [(RunTrainer, "training_step", _raise(IndexError("index out of range in self")))],
        "lost peer": [(RunTrainer, "training_step", _raise(RuntimeError("Connection reset by peer")))],
        "not causal": [(TextGeneration, "adapt", lambda self, config: False)],
        "gone after step 4": [(RunTrainer, "training_step", _vanish_after(4, RunTrainer.training_step))],
        "no rehearsal": [(rehearsal.Rehearsal, "run", lambda self, trainer: None)],
    }
    for owner, name, broken in faults[fault]:
        assert hasattr(owner, name), f"{fault} breaks nothing: there is no {name}"
        setattr(owner, name, broken)


if __name__ == "__main__":
    inject(os.environ["FAULT"])
    sys.exit(main())
