"""How many servers the serving revision shall have, and by whose word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelyard.api.conditions import ConditionType, format_time
from modelyard.api.deploymentstatus import ScalingStatus, VariantStatus
from modelyard.api.profile import Profile
from modelyard.api.serving import Scaling
from modelyard.serving import names
from modelyard.serving.draft import Draft
from modelyard.serving.engines.engine import choose as choose_engine
from modelyard.serving.gateways.reports import SILENT_SECONDS, Reports
from modelyard.serving.revisions.rollout import Revision
from modelyard.serving.scaling import Present, ScalingConfig, ScalingState, decide
from modelyard.serving.view import View
from modelyard.workloads.problem import Problem

_READY = ConditionType.SCALING_READY
# What others make that scale servers, by the spec's word for them.
SCALERS: Mapping[str, str] = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}
# Where nothing is known of the servers: what a small model answers at once without anybody waiting.
_TARGET = 8.0
# Of the requests at the knee: above it more at once only wait.
_UTILISATION = 0.7


@dataclass(frozen=True, slots=True)
class Wish:
    """`look_in`: seconds after which the load is to be looked at again; None while nothing can change."""

    replicas: int
    look_in: float | None = None


def choose(
    draft: Draft, serving: Revision | None, reports: Reports, figures: VariantStatus | None, *, foreign: bool
) -> Wish:
    """The number, which the status explains. `figures`: what was measured of such servers. `foreign`: the number that
    stands there is another scaler's.
    """
    spec = draft.view.spec
    if spec.suspend:
        draft.update(scaling=None)
        draft.hold(_READY, "False", "Suspended", "spec.suspend is true; set it to false to go on.")
        return Wish(0)
    scaling = spec.scaling
    leaving = [kind for kind in SCALERS.values() if draft.view.made(kind)]
    if serving is not None and scaling.scaler not in SCALERS and leaving:
        draft.update(scaling=None)
        draft.hold(_READY, "False", "HandingOver", f"The {leaving[0]} of before must be gone first.")
        return Wish(serving.replicas)
    if scaling.scaler == "none":
        draft.update(scaling=None)
        draft.hold(_READY, "True", "Manual", "spec.replicas says how many servers there are.")
        return Wish(spec.replicas)
    if scaling.scaler in SCALERS:
        # Theirs to say: whatever is there stays, and a new revision begins with as many.
        draft.update(scaling=None)
        # After a suspension there are none, and a HorizontalPodAutoscaler leaves none alone.
        present = serving.replicas if serving else 1
        return Wish(present if find_pause(draft.view) else present or scaling.min_replicas)
    if scaling.min_replicas == scaling.max_replicas:
        draft.update(scaling=None)
        draft.hold(_READY, "True", "Fixed", "minReplicas and maxReplicas are the same.")
        return Wish(scaling.min_replicas)
    return _follow_load(draft, serving, reports, _configure(scaling, figures), foreign=foreign)


def _follow_load(
    draft: Draft, serving: Revision | None, reports: Reports, config: ScalingConfig, *, foreign: bool
) -> Wish:
    view = draft.view
    if serving is None:
        draft.hold(_READY, "False", "NoServers", "Servers follow the load once there are some.")
        return Wish(config.clamp(max(1, view.spec.replicas)))
    before = view.status.scaling
    state = ScalingState.from_json(before.state if before else None)
    # The last number that was told: the pass in which it changes is planned twice, the second time with the servers
    # as they shall be, and both must say the same.
    last = before.desired if before else serving.replicas
    decision = decide(reports.load, state, config, _count(serving, last), view.now.timestamp())
    if not foreign and decision.replicas < serving.replicas > last:
        # What was told is old: an operator has died of telling more. None of these goes without its delay. (What it
        # wrote itself is nobody else's number any more.)
        last = serving.replicas
        decision = decide(reports.load, state, config, _count(serving, last), view.now.timestamp())
    # One that was never ready is waited for, however long that takes: idle it is not before.
    replicas = decision.replicas if has_served(view, serving.id) else max(1, decision.replicas)
    changed = replicas != last
    since = before.last_scale_time if before else None
    # One that has just fallen silent says nothing at the moment when its word no longer counts.
    silences = [age.silent for name, age in view.seen.ages.items() if name in view.seen.facts]
    if fading := [silent for silent in silences if 0 < silent <= SILENT_SECONDS]:
        draft.wake_in(SILENT_SECONDS - max(fading) + 1)
    # A rise that begins is noted whoever told of it; figures are told of the whole.
    rising = decision.state.rising_since is not None
    if before is None or changed or rising or not reports.awaited:
        draft.update(
            scaling=ScalingStatus(
                desired=replicas,
                reason=decision.reason,
                queued=round(reports.load.stable.queued, 1),
                in_flight=round(reports.load.stable.running, 1),
                last_scale_time=format_time(view.now) if changed else since,
                state=decision.state.to_json() or None,
            )
        )
    if changed:
        message = f"{last} to {replicas} servers: {decision.reason}."
        draft.emit("Normal", "Scaled", message)
    if _is_unknown(draft, reports):
        message = "No gateway tells its load; the number of servers stays as it is."
        draft.hold(_READY, "False", "LoadUnknown", message)
    else:
        draft.hold(_READY, "True", "Following", "The number of servers follows the load; see status.scaling.")
    return Wish(replicas, decision.look_in)


def _is_unknown(draft: Draft, reports: Reports) -> bool:
    """Whether the gateways don't tell their load. Until they have been asked, what was said last holds."""
    if reports.awaited and not reports.load.answered:
        conditions = draft.view.status.conditions
        return any(c.type == _READY and c.reason == "LoadUnknown" for c in conditions)
    return bool(reports.pods) and reports.load.answered == 0


def _count(serving: Revision, replicas: int) -> Present:
    return Present(replicas, min(serving.ready, replicas))


def find_pause(view: View) -> Problem | None:
    """Somebody has told KEDA to leave the number as it is, or has told it one: the next request starts no server."""
    objects = view.made(SCALERS["keda"])
    conditions = [c for obj in objects for c in (obj.get("status") or {}).get("conditions") or []]
    if not any(c.get("type") == "Paused" and c.get("status") == "True" for c in conditions):
        return None
    message = (
        "The ScaledObject is paused, and the number of servers stays: take its annotation"
        " autoscaling.keda.sh/paused-replicas, or paused, away."
    )
    return Problem("ScaledObjectPaused", message)


def has_served(view: View, revision: str) -> bool:
    """Whether this revision has answered requests before."""
    name = names.revision(view.name, revision)
    return any(known.name == name and known.state == "Serving" for known in view.status.revisions)


def find_target(scaling: Scaling, figures: VariantStatus | None) -> float:
    """Requests in flight that each server should have."""
    target, knee = scaling.target, figures.concurrency if figures else None
    if isinstance(target, int):
        return float(target)
    return knee * _UTILISATION if knee else _TARGET


def find_figures(draft: Draft, profile: Profile | None) -> VariantStatus | None:
    """What the build has measured of what serves; None of servers that aren't ours, which it can't measure.

    Without the profile nobody knows which of two serves a text generation.
    """
    known, task = draft.status.compression, draft.status.model.task if draft.status.model else None
    engine = draft.view.spec.engine.type
    if profile is not None:
        engine = choose_engine(draft.view.spec, profile, task)
    if known is None or engine in ("vllm", "custom") or (engine == "auto" and task == "text-generation"):
        return None
    return next((v for v in known.variants if v.name == known.chosen), None)


def _configure(scaling: Scaling, figures: VariantStatus | None) -> ScalingConfig:
    knee = figures.concurrency if figures else None
    rate = figures.requests_per_second if figures else None
    return ScalingConfig(
        target=find_target(scaling, figures),
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        delay_seconds=scaling.scale_down_delay_seconds,
        idle_seconds=scaling.idle_seconds,
        limit=knee or None,
        service_seconds=knee / rate if knee and rate else None,
        start_seconds=(figures.load_seconds or 0.0) if figures else 0.0,
    )
