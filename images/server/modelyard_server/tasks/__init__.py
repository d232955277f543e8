"""The tasks: a module each, and a line in the table."""

from __future__ import annotations

from modelyard_server.failure import Failure
from modelyard_server.tasks.classification import TextClassification
from modelyard_server.tasks.embeddings import Embeddings
from modelyard_server.tasks.generation import TextGeneration
from modelyard_server.tasks.task import Task

__all__ = ["TASKS", "Task", "find_task"]

TASKS: dict[str, Task] = {task.name: task for task in (TextClassification(), Embeddings(), TextGeneration())}


def find_task(name: str) -> Task:
    """The task of a server config. Raises Failure (InvalidServerConfig)."""
    if name not in TASKS:
        raise Failure(
            "InvalidServerConfig", f"this server has no task {name!r}; it has {', '.join(sorted(TASKS))}"
        )
    return TASKS[name]
