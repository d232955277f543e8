"""What a TrainingJob can be trained for. One more task is one more line here, and a module of the trainer's tasks/."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Task = Literal["text-classification", "text-generation"]


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What is known of a task without its code. `labelled`: each row of its data has one class.

    `metrics` are those that the built-in evaluation reports, without prefix.
    """

    name: Task
    metrics: tuple[str, ...]
    labelled: bool

    @property
    def gate_metrics(self) -> tuple[str, ...]:
        """The metrics as a gate names them."""
        return tuple(f"eval_{metric}" for metric in self.metrics)


TASKS: dict[str, TaskFacts] = {
    facts.name: facts
    for facts in (
        TaskFacts("text-classification", ("loss", "accuracy", "f1", "precision", "recall"), labelled=True),
        TaskFacts("text-generation", ("loss", "perplexity"), labelled=False),
    )
}
LABELLED: tuple[str, ...] = tuple(name for name, facts in TASKS.items() if facts.labelled)
if set(TASKS) != set(get_args(Task)):
    raise TypeError("a task lacks its facts, or facts lack their task")
