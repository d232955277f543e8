"""Others that set the number of servers where the spec leaves it to the operator: said in ScalingReady.

The API server notes who has written through the scale subresource, so this costs no call and no right.
"""

from __future__ import annotations

from dataclasses import replace

from modelyard.api.conditions import Condition, ConditionType, format_time
from modelyard.engine.managed import find_scale_writers
from modelyard.serving.draft import Draft
from modelyard.serving.revisions.observed import Observed
from modelyard.serving.revisions.scale import Wish
from modelyard.workloads.times import seconds_since

_READY = ConditionType.SCALING_READY
_CONTESTED = "Contested"
# Reasons of ScalingReady while the number is the operator's to say. Other ones: what an autoscaler of the deployment's
# own has written may still be there.
_OURS = frozenset({"Following", "LoadUnknown", "Fixed", "Manual", "ScaleIgnored", _CONTESTED})
# Seconds for which a contest is told of after the last look of the other one's: an autoscaler looks every 15 s, and in
# between nothing is to be seen. When that was is written this often.
_TOLD = 300.0
_NOTED = 60.0


def heed(draft: Draft, serving: Observed | None, wish: Wish) -> Wish:
    """Says so where the Deployment that serves, or the ModelDeployment itself, is scaled by others in vain.

    A contest is told of before it is overruled: of what a pass has changed itself, the next one sees nothing.
    """
    scaler = draft.view.spec.scaling.scaler
    draft.update(contest_time=None)
    if draft.view.spec.suspend or serving is None or scaler in ("hpa", "keda"):
        return wish
    told = _find_condition(draft)
    known = told is not None and told.reason == _CONTESTED
    since = _count_seconds(draft, told) if told is not None and known else None
    if writers := _find_contest(draft, serving, wish):
        name = serving.deployment["metadata"]["name"]
        message = (
            f"Something else scales Deployment {name} (written by {writers}) and is overruled. If a"
            " HorizontalPodAutoscaler targets it, delete that one, or let it target this ModelDeployment with"
            " spec.scaling.scaler: none."
        )
        draft.hold(_READY, "False", _CONTESTED, message)
        if since is None:
            draft.emit("Warning", _CONTESTED, message)
        # Else overruled at once: to write each of its looks down first would be a write of the status each 15 s.
        if since is None or since >= _NOTED:
            draft.update(contest_time=format_time(draft.view.now))
            draft.wake_in(0)
            return replace(wish, replicas=serving.revision.replicas)
        draft.update(contest_time=draft.view.status.contest_time)
    elif told is not None and since is not None and since < _TOLD:
        draft.hold(_READY, "False", _CONTESTED, told.message)
        draft.update(contest_time=draft.view.status.contest_time)
        draft.wake_in(_TOLD - since)
    elif scaler == "builtin" and (ignored := find_scale_writers(draft.view.resource)):
        message = (
            f"spec.replicas was set through the scale subresource (by {', '.join(ignored)}), and with scaler builtin"
            " only says where to begin. To let kubectl scale or a HorizontalPodAutoscaler decide, set"
            " spec.scaling.scaler: none."
        )
        draft.hold(_READY, "True", "ScaleIgnored", message)
    return wish


def _find_contest(draft: Draft, serving: Observed, wish: Wish) -> str:
    """Who has set another number than the one last wished for; empty: nobody."""
    told = _find_condition(draft)
    if told is None or told.reason not in _OURS:
        return ""
    known = draft.view.status.scaling
    if known is not None:
        expected = known.desired
    elif draft.view.status.observed_generation == draft.view.generation:
        expected = wish.replicas
    else:
        return ""  # the spec asks for another number since
    return "" if serving.revision.replicas == expected else ", ".join(find_scale_writers(serving.deployment))


def _count_seconds(draft: Draft, told: Condition) -> float:
    """Since the other one's last look that was noted."""
    return seconds_since(draft.view.status.contest_time or told.last_transition_time, draft.view.now)


def _find_condition(draft: Draft) -> Condition | None:
    return next((c for c in draft.view.status.conditions if c.type == _READY), None)
