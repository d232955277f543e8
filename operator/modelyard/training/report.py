"""Conditions and phase: derived from where the job stands, by kstatus' rules.

Ready always; Reconciling and Stalled only while they are true; nothing that counts or ticks in a message.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from modelyard.api.conditions import Condition, ConditionType, merge
from modelyard.api.status import Phase
from modelyard.training.draft import Draft
from modelyard.training.problem import Problem

Truth = Literal["True", "False", "Unknown"]

_EARLY = ("Pending", "Queued", "Preparing")
_WORKING = ("Preparing", "Training", "Evaluating")


def build_conditions(draft: Draft) -> list[dict[str, Any]]:
    """The whole set."""
    view = draft.view
    conditions = [*_summary(draft), *_data(draft), *_pods(draft), *_progress(draft), *_gate(draft)]
    suspended_before = any(c.type == ConditionType.SUSPENDED for c in view.status.conditions)
    if draft.stage == "Suspended":
        conditions.append(_condition(ConditionType.SUSPENDED, "True", "Suspended", draft.message))
    elif draft.stage in ("Suspending", "Stopping"):
        conditions.append(_condition(ConditionType.SUSPENDED, "False", "Stopping", draft.message))
    elif suspended_before:
        conditions.append(
            _condition(ConditionType.SUSPENDED, "False", "Resumed", "The job is not suspended.")
        )
    old = [condition.dump() for condition in view.status.conditions]
    generation = int(view.job["metadata"].get("generation", 0))
    ours = {str(kind) for kind in ConditionType}
    foreign = [condition for condition in old if condition["type"] not in ours]
    merged = [*merge(old, conditions, generation, view.now), *foreign]
    return sorted(merged, key=lambda c: str(c["type"]))


def derive_phase(conditions: list[dict[str, Any]]) -> Phase:
    """The printed summary."""
    held = {c["type"]: c for c in conditions}

    def is_true(kind: ConditionType) -> bool:
        return bool(held.get(kind, {}).get("status") == "True")

    if is_true(ConditionType.SUCCEEDED):
        return "Succeeded"
    if is_true(ConditionType.STALLED):
        return "Failed"
    if is_true(ConditionType.SUSPENDED):
        return "Suspended"
    phases: dict[str, Phase] = {phase: phase for phase in get_args(Phase)}
    reason = held.get(ConditionType.PROGRESSING, {}).get("reason", "")
    return phases.get(reason, "Pending")


def _summary(draft: Draft) -> list[Condition]:
    if draft.stage == "Succeeded":
        return [
            _condition(ConditionType.READY, "True", "Succeeded", draft.message),
            _condition(ConditionType.SUCCEEDED, "True", "Succeeded", draft.message),
        ]
    if draft.stalled is not None:
        stalled = [
            _of(ConditionType.READY, "False", draft.stalled),
            _of(ConditionType.STALLED, "True", draft.stalled),
        ]
        if draft.over:
            stalled.append(_of(ConditionType.SUCCEEDED, "False", draft.stalled))
        return stalled
    if draft.stage == "Suspended":
        return [_condition(ConditionType.READY, "False", "Suspended", draft.message)]
    why = draft.warning or draft.problem or Problem("Progressing", draft.message)
    if draft.notice:
        why = Problem(why.reason, f"{why.message} {draft.notice}")
    # Never Unknown, not even at first: a second status write that says nothing more would follow at once.
    return [_of(ConditionType.READY, "False", why), _of(ConditionType.RECONCILING, "True", why)]


def _data(draft: Draft) -> list[Condition]:
    if draft.view.spec.data is None:
        return []
    if draft.status.data is not None:
        reason = "CacheHit" if draft.status.data.cache_hit else "Prepared"
        return [
            _condition(ConditionType.DATA_READY, "True", reason, "The data is prepared; see status.data.")
        ]
    why = draft.stalled or draft.problem
    if draft.data_failure and (why is None or why.reason == "ProgressingWithRetry"):
        why = draft.data_failure
    if why is None:
        word = "Suspended" if draft.stage in ("Suspended", "Suspending") else "Preparing"
        why = Problem(word, draft.message)
    return [_of(ConditionType.DATA_READY, "False", why)]


def _pods(draft: Draft) -> list[Condition]:
    kind = ConditionType.PODS_READY
    if draft.stage == "Succeeded":
        return [_condition(kind, "False", "Finished", "The training pods have finished.")]
    if draft.pods_ready:
        return [_condition(kind, "True", "Running", "All pods run.")]
    if draft.stalled is not None or draft.problem is not None:
        why = draft.stalled or draft.problem
        return [_of(kind, "False", why)] if why else []
    return [_condition(kind, "False", draft.stage, draft.message)]


def _progress(draft: Draft) -> list[Condition]:
    works = draft.stage in _WORKING and draft.problem is None and draft.stalled is None
    word = draft.stalled.reason if draft.stalled else draft.stage
    message = draft.stalled.message if draft.stalled else draft.message
    conditions = [_condition(ConditionType.PROGRESSING, "True" if works else "False", word, message)]
    if draft.stage in _EARLY and not draft.status.attempt:
        return conditions
    checkpoints = draft.status.checkpoints
    if draft.warning is not None:
        return [*conditions, _of(ConditionType.CHECKPOINT_SAFE, "False", draft.warning)]
    if checkpoints is not None and checkpoints.last is not None:
        safe = _condition(
            ConditionType.CHECKPOINT_SAFE,
            "True",
            "Verified",
            "A verified checkpoint exists; see status.checkpoints.",
        )
    else:
        safe = _condition(
            ConditionType.CHECKPOINT_SAFE,
            "False",
            "NoCheckpoint",
            "No checkpoint was saved." if draft.over else "Nothing is saved yet; a restart would begin anew.",
        )
    return [*conditions, safe]


def _gate(draft: Draft) -> list[Condition]:
    if draft.view.spec.gate is None:
        return []
    gate = draft.status.gate
    if gate is None:
        message = "The gate is judged when training has ended."
        if draft.over:
            message = "The job ended before its gate could be judged."
        return [_condition(ConditionType.GATE_PASSED, "Unknown", "NotEvaluated", message)]
    if gate.passed:
        return [
            _condition(ConditionType.GATE_PASSED, "True", "Passed", f"{gate.metric} is within its bound.")
        ]
    return [
        _condition(
            ConditionType.GATE_PASSED,
            "False",
            "GateFailed",
            f"{gate.metric} misses its bound; see status.gate.",
        )
    ]


def _of(kind: ConditionType, status: Truth, problem: Problem) -> Condition:
    return _condition(kind, status, problem.reason, problem.message)


def _condition(kind: ConditionType, status: Truth, reason: str, message: str) -> Condition:
    return Condition(type=str(kind), status=status, reason=reason, message=message[:1024])
