"""A ModelDeployment's plan in the making."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modelyard.api.conditions import Condition, ConditionType
from modelyard.api.deploymentstatus import ModelDeploymentStatus
from modelyard.serving.view import View
from modelyard.workloads import conditions, draft
from modelyard.workloads.conditions import Truth
from modelyard.workloads.problem import Problem


@dataclass(slots=True)
class Draft(draft.Draft):
    """`held` are the conditions of the parts, from which Ready follows."""

    view: View
    status: ModelDeploymentStatus
    held: dict[ConditionType, Condition] = field(default_factory=dict)

    def update(self, **fields: Any) -> None:
        """Replaces fields of the status."""
        self.status = self.status.model_copy(update=fields)

    def hold(self, kind: ConditionType, status: Truth, reason: str, message: str) -> None:
        """Says how a part stands."""
        self.held[kind] = conditions.build(kind, status, reason, message)

    def miss(self, kind: ConditionType, problem: Problem) -> None:
        """Says why a part isn't there."""
        self.hold(kind, "False", problem.reason, problem.message)

    def holds(self, kind: ConditionType) -> bool:
        """Whether a part is there."""
        return kind in self.held and self.held[kind].status == "True"
