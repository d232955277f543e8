"""The plan in the making: one pass's growing answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from modelyard.api.conditions import format_time
from modelyard.api.status import TrainingJobStatus
from modelyard.engine.plan import Child, Event, Manifest
from modelyard.engine.probe import Question
from modelyard.training.problem import Problem
from modelyard.training.view import View, parse_time

Stage = Literal[
    "Pending", "Queued", "Preparing", "Starting", "Training", "Evaluating", "Recovering", "Suspending",
    "Suspended", "Stopping", "Succeeded", "Failed",
]  # fmt: skip


@dataclass(slots=True)
class Draft:
    """`stage` and `problem` say where the job stands; the conditions follow from them and from the status."""

    view: View
    status: TrainingJobStatus
    stage: Stage = "Pending"
    message: str = ""
    problem: Problem | None = None
    warning: Problem | None = None  # what goes on, but not to a good end
    stalled: Problem | None = None
    data_failure: Problem | None = None  # why the last try to prepare the data failed
    notice: str = ""  # what does not keep the job from going on, but should be known while it is so
    pods_ready: bool = False
    children: list[Child] = field(default_factory=list)
    keep: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    probes: list[Question] = field(default_factory=list)
    wakes: list[float] = field(default_factory=list)

    def update(self, **fields: Any) -> None:
        """Replaces fields of the status."""
        self.status = self.status.model_copy(update=fields)

    def stand(self, stage: Stage, message: str, problem: Problem | None = None) -> None:
        """Says where the job stands."""
        self.stage, self.message, self.problem = stage, message, problem

    def keep_object(self, *objects: Manifest) -> None:
        """Leaves children as they are."""
        self.keep |= {f"{o['kind']}/{o['metadata']['name']}" for o in objects}

    def keep_kinds(self, *kinds: str) -> None:
        """Leaves all children of these kinds as they are."""
        for kind in kinds:
            self.keep_object(*self.view.seen.of_kind(kind))

    def wake_in(self, seconds: float) -> None:
        """Asks for another pass."""
        self.wakes.append(max(0.05, seconds))

    def emit(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """An event about a change that this pass makes."""
        self.events.append(Event(kind, reason, message[:1024]))

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
