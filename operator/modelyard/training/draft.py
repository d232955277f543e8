"""A TrainingJob's plan in the making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from modelyard.api.conditions import format_time
from modelyard.api.status import TrainingJobStatus
from modelyard.training.view import View
from modelyard.workloads import draft
from modelyard.workloads.cost import Usage
from modelyard.workloads.problem import Problem
from modelyard.workloads.times import parse_time

Stage = Literal[
    "Pending", "Queued", "Preparing", "Starting", "Training", "Evaluating", "Recovering", "Suspending",
    "Suspended", "Stopping", "Succeeded", "Failed",
]  # fmt: skip


@dataclass(slots=True)
class Draft(draft.Draft):
    """`stage` and `problem` say where the job stands; the conditions follow from them and from the status."""

    view: View
    status: TrainingJobStatus
    stage: Stage = "Pending"
    data_failure: Problem | None = None  # why the last try to prepare the data failed
    pods_ready: bool = False
    usage: Usage | None = None  # of the pods that run
    spent: Mapping[str, float] | None = None  # seconds of the attempt that runs, by state

    def update(self, **fields: Any) -> None:
        """Replaces fields of the status."""
        self.status = self.status.model_copy(update=fields)

    def stand(self, stage: Stage, message: str, problem: Problem | None = None) -> None:
        """Says where the job stands."""
        self.stage, self.message, self.problem = stage, message, problem

    def wait_for_retry(self) -> bool:
        """Whether status.retryTime still lies ahead."""
        retry = self.status.retry_time
        left = (parse_time(retry) - self.view.now).total_seconds() if retry else 0.0
        if left > 0:
            self.wake_in(left)
        return left > 0

    def retry_in(self, seconds: float) -> None:
        """Sets status.retryTime. It has whole seconds; the wait is never shorter than asked for by more than
        one.
        """
        self.update(retry_time=format_time(self.view.now + timedelta(seconds=seconds)))
        self.wake_in(seconds)

    def fail(self, problem: Problem) -> None:
        """Ends the job for good."""
        self.stand("Failed", problem.message)
        self.stalled = problem
        self.update(completion_time=format_time(self.view.now), retry_time=None)
        self.emit("Warning", problem.reason, problem.message)

    def succeed(self, message: str) -> None:
        """Ends the job for good, with a model."""
        self.stand("Succeeded", message)
        self.update(completion_time=format_time(self.view.now), retry_time=None)
        self.emit("Normal", "Succeeded", message)

    @property
    def over(self) -> bool:
        """Whether the job has ended for good."""
        return self.status.completion_time is not None

    def name_resources(self, stage: str) -> str:
        """The field, in words, that says what the pods of a stage ask for."""
        if stage != "train" and self.view.spec.data is None:
            return "the profile's prepareResources"
        # Explicit, because slots make another class of this one, which super() does not find.
        return f"{draft.Draft.name_resources(self, stage)} (suspend the job to change it)"
