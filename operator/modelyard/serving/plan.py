"""ModelDeployment's plan: a pure function from what is seen to what should be true."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import ValidationError

from modelyard.api.conditions import ConditionType
from modelyard.api.deploymentstatus import ModelDeploymentStatus
from modelyard.api.errors import describe
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.profile import Settings
from modelyard.api.serving import ServedModel
from modelyard.engine.plan import Event, Manifest, Plan, Planner, Seen
from modelyard.serving import check, names, place, source
from modelyard.serving.building import build
from modelyard.serving.building.config import build_config
from modelyard.serving.children.site import Site
from modelyard.serving.draft import Draft
from modelyard.serving.gateways import gateway
from modelyard.serving.revisions import revisions
from modelyard.serving.source import Source
from modelyard.serving.status import conditions
from modelyard.serving.view import View
from modelyard.workloads import profiles, refusal
from modelyard.workloads.problem import Problem, Refused
from modelyard.workloads.storage import build_claim
from modelyard.workloads.view import read_status

# What the load changes all the time is written every ten seconds at most.
VOLATILE = frozenset({"scaling"})
_MADE = (
    "PersistentVolumeClaim", "ServiceAccount", "RoleBinding", "Service", "PodDisruptionBudget", "Deployment", "Job",
    "HorizontalPodAutoscaler", "ScaledObject",
)  # fmt: skip
_FIELDS = {
    "PersistentVolumeClaim": ("spec.storage.claim.size", "spec.storage.claim"),
    "Job": ("spec.server.resources", "spec.server.podTemplate or the profile"),
    "Deployment": ("spec.server.resources", "spec.server.podTemplate or the profile"),
}
_QUOTA = {
    "PersistentVolumeClaim": "Ask for less in spec.storage.claim.size, use a claim that exists (spec.storage.uri), or"
    " have the quota raised.",
}


def make_planner(settings: Callable[[], Settings]) -> Planner:
    """The plan as the engine calls it. `settings` gives the present profiles."""

    def plan(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        return plan_deployment(resource, seen, now, settings())

    return plan


def plan_deployment(resource: Manifest, seen: Seen, now: datetime, settings: Settings) -> Plan:
    """What should be true of this ModelDeployment, its children and its status."""
    status = read_status(ModelDeploymentStatus, resource.get("status") or {})
    try:
        spec = ModelDeploymentSpec.model_validate(resource.get("spec") or {})
    except ValidationError as error:
        # Any spec does: nothing of it is carried out.
        spec = ModelDeploymentSpec(model=ServedModel(uri="pvc://unknown"))
        draft = Draft(View(resource, seen, now, spec, status), status)
        return _refuse(draft, Problem("InvalidSpec", describe(error)), readable=False)
    draft = Draft(View(resource, seen, now, spec, status), status)
    try:
        _advance(draft, settings)
    except Refused as refused:
        return _refuse(draft, refused.problem, readable=True)
    _report_rejections(draft)
    return _finish(draft)


def _advance(draft: Draft, settings: Settings) -> None:
    view = draft.view
    profile = profiles.find(view.spec.profile, settings)
    check.check_profile(view.spec.profile, profile)
    asked = source.find(view.namespace, view.spec, view.seen.references)
    problem = asked if isinstance(asked, Problem) else None
    found = source.recall(view.spec, view.status) if isinstance(asked, Problem) else asked
    where, choice = place.find(view, found, profile)
    check.check_spec(view.spec, profile, where, found)
    site = Site(view.namespace, view.name, view.labels, profile, where)
    gateway.advance(draft, site, settings.gateway_role)
    # Servers may have it mounted long after the models are kept elsewhere; it goes with the deployment.
    draft.keep_kinds("PersistentVolumeClaim")
    if found is not None:
        draft.update(storage=where.uri, storage_choice=choice)
        if where.own is not None:
            labels = names.object_labels(view.name, "storage", view.labels)
            draft.children.append(build_claim(view, where.claim, labels, where.own, profile))
    _tell_model(draft, problem, found)
    if found is None:
        draft.keep_kinds("Job")
        built = False
    else:
        built = build.advance(draft, site, found, *build_config(view.spec, found, where))
    revisions.advance(draft, site, built=built)


def _tell_model(draft: Draft, problem: Problem | None, found: Source | None) -> None:
    if problem is None:
        draft.hold(ConditionType.MODEL_READY, "True", "Found", "The model is there to be read.")
    elif problem.reason == "TrainingJobNotFound" and found is not None:
        why = f"TrainingJob {found.job} is gone; the model that it left is served."
        draft.hold(ConditionType.MODEL_READY, "True", "JobGone", why)
    else:
        draft.miss(ConditionType.MODEL_READY, problem)
        if problem.fatal:
            draft.stalled = problem


def _report_rejections(draft: Draft) -> None:
    """What the API server refused is named, and tried again by the engine."""
    for child in draft.children:
        rejection = draft.view.seen.rejections.get(child.id)
        if rejection is None:
            continue
        if rejection.reason == "Terminating":
            draft.problem = Problem(
                "Terminating", f"{rejection.message} It goes on by itself once that is gone."
            )
            return
        problem = refusal.explain_rejection(child, rejection, _FIELDS, _QUOTA)
        if rejection.reason == "Invalid":
            draft.stalled = problem
        draft.problem = problem
        return


def _refuse(draft: Draft, problem: Problem, *, readable: bool) -> Plan:
    """Nothing is carried out; what is there goes on, and is told of as it is. Only a `readable` spec says how."""
    draft.children.clear()
    draft.probes.clear()
    draft.keep_kinds(*_MADE)
    draft.held = {ConditionType(c.type): c for c in draft.view.status.conditions if c.type in _PARTS}
    if ConditionType.GATEWAY_READY in draft.held:
        gateway.judge(draft)
    revisions.go_on(draft, problem, readable=readable)
    draft.stalled = problem
    return _finish(draft)


_PARTS = tuple(
    str(kind)
    for kind in (
        ConditionType.MODEL_READY,
        ConditionType.BUILT,
        ConditionType.SERVERS_READY,
        ConditionType.GATEWAY_READY,
        ConditionType.UP_TO_DATE,
        ConditionType.SCALING_READY,
    )
)


def _finish(draft: Draft) -> Plan:
    view = draft.view
    held = conditions.build_conditions(draft)
    draft.update(observed_generation=view.generation)
    return Plan(
        status={**draft.status.dump(), "conditions": held},
        children=tuple(draft.children),
        keep=frozenset(draft.keep - {child.id for child in draft.children}),
        references=source.find_references(view.namespace, view.spec),
        events=(*draft.events, *_problem_events(draft)),
        probes=tuple(draft.probes),
        # The next look hangs on whether the load has begun to rise: that is written at once.
        volatile=VOLATILE if _is_rising(draft.status) == _is_rising(view.status) else frozenset(),
        requeue_after=min(draft.wakes, default=None),
    )


def _is_rising(status: ModelDeploymentStatus) -> bool:
    return status.scaling is not None and "risingSince" in (status.scaling.state or {})


def _problem_events(draft: Draft) -> list[Event]:
    """One event when a new reason keeps the deployment from what its spec asks for."""
    problem = draft.stalled or draft.problem
    if problem is None:
        return []
    told = {(c.type, c.reason) for c in draft.view.status.conditions}
    if {("Stalled", problem.reason), ("Reconciling", problem.reason)} & told:
        return []
    return [Event("Warning", problem.reason, problem.message[:1024])]
