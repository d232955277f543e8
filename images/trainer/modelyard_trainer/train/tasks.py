"""The tasks, and in what they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelyard_trainer.failure import Failure, nearest


@dataclass(frozen=True, slots=True)
class Task:
    """One task. `auto_class` is transformers'; `metrics` are those measured, without prefix."""

    name: str
    auto_class: str
    metrics: tuple[str, ...]
    labelled: bool


TASKS = {
    task.name: task
    for task in (
        Task(
            "text-classification",
            "AutoModelForSequenceClassification",
            ("loss", "accuracy", "f1", "precision", "recall"),
            labelled=True,
        ),
        Task(
            "text-generation",
            "AutoModelForCausalLM",
            ("loss", "perplexity"),
            labelled=False,
        ),
    )
}


def find_task(name: str | None) -> Task:
    """The task of a run config. Raises Failure (InvalidRunConfig)."""
    if name not in TASKS:
        raise Failure(
            "InvalidRunConfig", f"this trainer has no task {name!r}; it has {', '.join(sorted(TASKS))}"
        )
    return TASKS[name]


def check_metric(task: Task, metric: str) -> None:
    """Refuses a gate on something that isn't measured. Raises Failure (InvalidArgument)."""
    measured = [f"eval_{m}" for m in task.metrics]
    if metric not in measured:
        near = nearest(metric, measured)
        raise Failure(
            "InvalidArgument",
            f"gate.metric {metric} isn't measured for {task.name}; use one of {', '.join(measured)}"
            + (f" (did you mean {near}?)" if near else ""),
        )


def load_class(task: Task) -> Any:
    """The class of transformers that makes the task's models."""
    import transformers

    return getattr(transformers, task.auto_class)
