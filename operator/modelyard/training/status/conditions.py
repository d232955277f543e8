"""Conditions and phase: derived from where the job stands."""

from __future__ import annotations

from typing import Any, get_args

from modelyard.api.conditions import Condition, ConditionType
from modelyard.api.status import Phase
from modelyard.training.draft import Draft
from modelyard.workloads.conditions import build, explain, settle, sum_up
from modelyard.workloads.problem import Problem

_EARLY = ("Pending", "Queued", "Preparing")
_WORKING = ("Preparing", "Training", "Evaluating")


def build_conditions(draft: Draft) -> list[dict[str, Any]]:
    """The whole set."""
    conditions = [*_summary(draft), *_data(draft), *_pods(draft), *_progress(draft), *_gate(draft)]
    suspended_before = any(c.type == ConditionType.SUSPENDED for c in draft.view.status.conditions)
    if draft.stage == "Suspended":
        conditions.append(build(ConditionType.SUSPENDED, "True", "Suspended", draft.message))
    elif draft.stage in ("Suspending", "Stopping"):
        conditions.append(build(ConditionType.SUSPENDED, "False", "Stopping", draft.message))
    elif suspended_before:
        conditions.append(build(ConditionType.SUSPENDED, "False", "Resumed", "The job is not suspended."))
    return settle(draft, draft.view.status.conditions, conditions)


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
            build(ConditionType.READY, "True", "Succeeded", draft.message),
            build(ConditionType.SUCCEEDED, "True", "Succeeded", draft.message),
        ]
    if draft.stage == "Suspended" and draft.stalled is None:
        return [build(ConditionType.READY, "False", "Suspended", draft.message)]
    conditions = sum_up(draft)
    if draft.stalled is not None and draft.over:
        conditions.append(explain(ConditionType.SUCCEEDED, "False", draft.stalled))
    return conditions


def _data(draft: Draft) -> list[Condition]:
    if draft.view.spec.data is None:
        return []
    if draft.status.data is not None:
        reason = "CacheHit" if draft.status.data.cache_hit else "Prepared"
        return [build(ConditionType.DATA_READY, "True", reason, "The data is prepared; see status.data.")]
    why = draft.stalled or draft.problem
    if draft.data_failure and (why is None or why.reason == "ProgressingWithRetry"):
        why = draft.data_failure
    if why is None:
        word = "Suspended" if draft.stage in ("Suspended", "Suspending") else "Preparing"
        why = Problem(word, draft.message)
    return [explain(ConditionType.DATA_READY, "False", why)]


def _pods(draft: Draft) -> list[Condition]:
    kind = ConditionType.PODS_READY
    if draft.stage == "Succeeded":
        return [build(kind, "False", "Finished", "The training pods have finished.")]
    if draft.pods_ready:
        return [build(kind, "True", "Running", "All pods run.")]
    if draft.stalled is not None or draft.problem is not None:
        why = draft.stalled or draft.problem
        return [explain(kind, "False", why)] if why else []
    return [build(kind, "False", draft.stage, draft.message)]


def _progress(draft: Draft) -> list[Condition]:
    works = draft.stage in _WORKING and draft.problem is None and draft.stalled is None
    word = draft.stalled.reason if draft.stalled else draft.stage
    message = draft.stalled.message if draft.stalled else draft.message
    conditions = [build(ConditionType.PROGRESSING, "True" if works else "False", word, message)]
    if draft.stage in _EARLY and not draft.status.attempt:
        return conditions
    checkpoints = draft.status.checkpoints
    if draft.warning is not None:
        return [*conditions, explain(ConditionType.CHECKPOINT_SAFE, "False", draft.warning)]
    if checkpoints is not None and checkpoints.last is not None:
        safe = build(
            ConditionType.CHECKPOINT_SAFE,
            "True",
            "Verified",
            "A verified checkpoint exists; see status.checkpoints.",
        )
    else:
        safe = build(
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
        return [build(ConditionType.GATE_PASSED, "Unknown", "NotEvaluated", message)]
    if gate.passed:
        return [build(ConditionType.GATE_PASSED, "True", "Passed", f"{gate.metric} is within its bound.")]
    return [
        build(
            ConditionType.GATE_PASSED,
            "False",
            "GateFailed",
            f"{gate.metric} misses its bound; see status.gate.",
        )
    ]
