"""Conditions by kstatus' rules.

Ready always; Reconciling and Stalled only while they are true; nothing that counts or ticks in a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from modelyard.api.conditions import Condition, ConditionType, merge
from modelyard.workloads.draft import Draft
from modelyard.workloads.problem import Problem

Truth = Literal["True", "False", "Unknown"]


def build(kind: ConditionType, status: Truth, reason: str, message: str) -> Condition:
    """One condition; its times are set by `settle`."""
    return Condition(type=str(kind), status=status, reason=reason, message=message[:1024])


def explain(kind: ConditionType, status: Truth, problem: Problem) -> Condition:
    """One condition with a problem's reason and message."""
    return build(kind, status, problem.reason, problem.message)


def sum_up(draft: Draft) -> list[Condition]:
    """Ready, and Stalled or Reconciling, of a resource that is not where it shall be."""
    if draft.stalled is not None:
        return [
            explain(ConditionType.READY, "False", draft.stalled),
            explain(ConditionType.STALLED, "True", draft.stalled),
        ]
    why = draft.warning or draft.problem or Problem("Progressing", draft.message)
    if draft.notice:
        why = Problem(why.reason, f"{why.message} {draft.notice}")
    # Never Unknown, not even at first: a second status write that says nothing more would follow at once.
    return [
        explain(ConditionType.READY, "False", why),
        explain(ConditionType.RECONCILING, "True", why),
    ]


def settle(
    draft: Draft, before: Sequence[Condition], conditions: Sequence[Condition]
) -> list[dict[str, Any]]:
    """The whole set as it is written: with times and generations, and with those of others, as they were."""
    old = [condition.dump() for condition in before]
    ours = {str(kind) for kind in ConditionType}
    foreign = [condition for condition in old if condition["type"] not in ours]
    merged = [*merge(old, conditions, draft.view.generation, draft.view.now), *foreign]
    return sorted(merged, key=lambda c: str(c["type"]))
