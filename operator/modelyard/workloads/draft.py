"""The plan in the making: one pass's growing answer, as far as it is the same for every feature."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from modelyard.engine.plan import Child, Event, Manifest
from modelyard.engine.probe import Question
from modelyard.workloads import stages
from modelyard.workloads.problem import Problem
from modelyard.workloads.view import View


@dataclass(slots=True)
class Draft:
    """`message` says where the resource stands, and a problem why it does not go on; conditions follow from them."""

    view: View
    message: str = field(default="", kw_only=True)
    problem: Problem | None = field(default=None, kw_only=True)
    # What goes on, but not to a good end.
    warning: Problem | None = field(default=None, kw_only=True)
    # What waiting does not help.
    stalled: Problem | None = field(default=None, kw_only=True)
    # What does not keep it from going on, but should be known while it is so.
    notice: str = field(default="", kw_only=True)
    children: list[Child] = field(default_factory=list, kw_only=True)
    keep: set[str] = field(default_factory=set, kw_only=True)
    events: list[Event] = field(default_factory=list, kw_only=True)
    probes: list[Question] = field(default_factory=list, kw_only=True)
    wakes: list[float] = field(default_factory=list, kw_only=True)

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

    def name_resources(self, stage: str) -> str:
        """The field, in words, that says what the pods of a stage ask for."""
        return stages.find(stage).resources
