"""Scalers of others: made for the revision that serves, never two at once, and heard of in ScalingReady."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard.api.conditions import ConditionType
from modelyard.engine.plan import Manifest
from modelyard.serving.children import scalers
from modelyard.serving.children.site import Site
from modelyard.serving.draft import Draft
from modelyard.serving.revisions import scale
from modelyard.workloads.reasons import as_reason

_READY = ConditionType.SCALING_READY
_ADVICE = {
    "NotServed": "Install KEDA, or set spec.scaling.scaler.",
    "NameTaken": "Delete or rename it; or set spec.scaling.scaler to none, and let it target this ModelDeployment.",
}


def advance(draft: Draft, site: Site, serving: str | None, *, proven: bool) -> None:
    """Plans the scaler that the spec asks for; what another one has made goes first. proven: it was ready once."""
    spec = draft.view.spec
    kind = scale.SCALERS.get(spec.scaling.scaler)
    if kind is None or spec.suspend:
        return
    others = [other for other in scale.SCALERS.values() if other != kind and draft.view.made(other)]
    if serving is None:
        draft.hold(_READY, "False", "NoServers", "Servers are scaled once there are some.")
    elif others:
        draft.hold(_READY, "False", "HandingOver", f"The {others[0]} of before must be gone first.")
    else:
        if kind == "HorizontalPodAutoscaler":
            child = scalers.build_autoscaler(site, spec.scaling, serving)
        else:
            target = scale.find_target(spec.scaling, scale.find_figures(draft, site.profile))
            # Nobody asks a deployment that isn't ready yet, and KEDA would take its first server before it ever is.
            least = spec.scaling.min_replicas if proven else max(1, spec.scaling.min_replicas)
            child = scalers.build_scaled_object(site, spec.scaling, serving, target, least)
        draft.children.append(child)
        _tell(draft, kind)


def judge(draft: Draft) -> None:
    """Says what the scaler that is there says of itself, where nothing is planned."""
    kind = scale.SCALERS.get(draft.view.spec.scaling.scaler)
    if kind is not None and draft.view.made(kind):
        _tell(draft, kind)


def _tell(draft: Draft, kind: str) -> None:
    """Mirrors what the scaler says of itself."""
    found = draft.view.made(kind)
    conditions = ((found[0].get("status") or {}).get("conditions") or []) if found else []
    wrong = next((c for c in conditions if _is_wrong(c)), None)
    if draft.view.seen.rejections.get(f"{kind}/{draft.view.name}") is not None:
        rejection = draft.view.seen.rejections[f"{kind}/{draft.view.name}"]
        message = f"{rejection.message} {_ADVICE.get(rejection.reason, '')}".rstrip()
        draft.hold(_READY, "False", rejection.reason, message)
    elif (pause := scale.find_pause(draft.view)) is not None:
        draft.hold(_READY, "False", pause.reason, pause.message)
    elif wrong is not None:
        reason = as_reason(str(wrong.get("reason") or ""), "NotScaling")
        draft.hold(_READY, "False", reason, str(wrong.get("message") or kind))
    elif conditions:
        draft.hold(_READY, "True", "Delegated", f"The {kind} sets the number of servers.")
    else:
        draft.hold(_READY, "False", "Starting", f"The {kind} has not looked yet.")


def _is_wrong(condition: Manifest | Mapping[str, Any]) -> bool:
    kind, status = condition.get("type"), condition.get("status")
    return kind in ("AbleToScale", "ScalingActive", "Ready") and status == "False"
