"""The tasks whose models are built: a module each, and a line in the table."""

from __future__ import annotations

from modelyard_build.tasks.classification import TextClassification
from modelyard_build.tasks.embeddings import Embeddings
from modelyard_build.tasks.generation import TextGeneration
from modelyard_build.tasks.task import Answers, BuildTask

__all__ = ["TASKS", "Answers", "BuildTask"]

TASKS: dict[str, BuildTask] = {
    task.name: task for task in (TextClassification(), Embeddings(), TextGeneration())
}
