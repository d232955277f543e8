"""The conditions: those of the parts, and Ready, which follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelyard.api.conditions import Condition, ConditionType
from modelyard.serving.draft import Draft
from modelyard.serving.gateways.gateway import REPLACING
from modelyard.workloads.conditions import build, explain, settle
from modelyard.workloads.problem import Problem

# The first of them that isn't there says why nothing answers.
_PARTS = (
    ConditionType.MODEL_READY,
    ConditionType.BUILT,
    ConditionType.SERVERS_READY,
    ConditionType.GATEWAY_READY,
)
# Once a revision has all requests, it alone hangs on these whether they are answered.
_ANSWERING = _PARTS[2:]
# While another job is awaited nothing is being changed.
_PATIENT = frozenset({"WaitingForTraining", "TrainingJobNotFound"})


def build_conditions(draft: Draft) -> list[dict[str, Any]]:
    """The whole set."""
    return settle(draft, draft.view.status.conditions, [*draft.held.values(), *_sum_up(draft)])


def _sum_up(draft: Draft) -> list[Condition]:
    """Ready says whether requests are answered; Reconciling and Stalled whether what the spec asks for is on its way.

    A change that fails leaves what was there: Ready stays, and Stalled tells of the change.
    """
    halted = _find_halt(draft)
    if halted is not None and draft.stalled is None:
        return [
            explain(ConditionType.READY, "False", halted),
            explain(ConditionType.SUSPENDED, "True", halted),
        ]
    answers = all(draft.holds(kind) for kind in _ANSWERING)
    serves = any(revision.weight > 0 for revision in draft.status.revisions)
    missing = (_find_missing(draft, _ANSWERING) if serves else None) or _find_missing(draft, _PARTS)
    why = draft.stalled or draft.problem or missing
    if answers:
        found = [build(ConditionType.READY, "True", "Serving", "Requests are answered.")]
    else:
        why = why or Problem("Progressing", "It is being made ready.")
        found = [explain(ConditionType.READY, "False", why)]
    if draft.stalled is not None:
        found.append(explain(ConditionType.STALLED, "True", draft.stalled))
    elif why := (draft.problem or (why if not answers else None) or _find_change(draft)):
        found.append(explain(ConditionType.RECONCILING, "True", why))
    return found


def _find_halt(draft: Draft) -> Problem | None:
    """What users have stopped."""
    spec = draft.view.spec
    if spec.suspend:
        return Problem("Suspended", "spec.suspend is true; set it to false to go on.")
    if spec.scaling.scaler == "none" and spec.replicas == 0 and draft.status.replicas == 0:
        return Problem(
            "Suspended", "spec.replicas is 0: nothing answers until there are more (kubectl scale)."
        )
    return None


def _find_missing(draft: Draft, parts: Sequence[ConditionType]) -> Problem | None:
    for kind in parts:
        condition = draft.held.get(kind)
        if condition is not None and condition.status != "True":
            return Problem(condition.reason, condition.message)
    return None


def _find_change(draft: Draft) -> Problem | None:
    """What is under way while requests are answered."""
    for kind in (ConditionType.UP_TO_DATE, ConditionType.GATEWAY_READY):
        condition = draft.held.get(kind)
        if condition is None or condition.reason in _PATIENT:
            continue
        if condition.status != "True" or condition.reason == REPLACING:
            return Problem(condition.reason, condition.message)
    return None
