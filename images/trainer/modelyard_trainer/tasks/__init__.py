"""The tasks: a module each, and a line in the table."""

from __future__ import annotations

from modelyard_models.failure import Failure

from modelyard_trainer.tasks.classification import TextClassification
from modelyard_trainer.tasks.generation import TextGeneration
from modelyard_trainer.tasks.task import Task

__all__ = ["TASKS", "Task", "find_task"]

TASKS: dict[str, Task] = {task.name: task for task in (TextClassification(), TextGeneration())}


def find_task(name: str | None) -> Task:
    """The task of a run config. Raises Failure (InvalidRunConfig)."""
    if name not in TASKS:
        raise Failure(
            "InvalidRunConfig", f"this trainer has no task {name!r}; it has {', '.join(sorted(TASKS))}"
        )
    return TASKS[name]
