"""TrainingJob's plan: a pure function from what is seen to what should be true."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from modelyard.api.errors import describe
from modelyard.api.profile import Settings
from modelyard.api.status import TrainingJobStatus
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.engine.plan import Event, Manifest, Plan, Planner, Seen
from modelyard.training.attempts import train
from modelyard.training.children import factory
from modelyard.training.draft import Draft
from modelyard.training.preparation import prepare
from modelyard.training.spec import frozen
from modelyard.training.status import conditions, costs, goodput, size
from modelyard.training.status.records import is_recorded
from modelyard.training.view import View, read_status
from modelyard.workloads import jobstate
from modelyard.workloads.pods import sidecars
from modelyard.workloads.problem import Problem, Refused
from modelyard.workloads.times import parse_time

# While a job runs, these change all the time; alone they are written every ten seconds at most.
VOLATILE = frozenset({"progress", "nodes", "checkpoints", "goodput", "cost"})


def make_planner(settings: Callable[[], Settings]) -> Planner:
    """The plan as the engine calls it. `settings` gives the present profiles."""

    def plan(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        return plan_job(resource, seen, now, settings())

    return plan


def plan_job(job: Manifest, seen: Seen, now: datetime, settings: Settings) -> Plan:
    """What should be true of this TrainingJob, its children and its status."""
    status = read_status(job.get("status") or {})
    if status.completion_time is not None:
        return _plan_finished(job, seen, now, status)
    try:
        spec = TrainingJobSpec.model_validate(job.get("spec") or {})
    except ValidationError as error:
        return _plan_invalid(job, seen, now, status, Problem("InvalidSpec", describe(error)))
    draft = Draft(View(job, seen, now, spec, status), status)
    try:
        if spec.data is None or prepare.advance(draft, settings):
            train.advance(draft, settings)
    except Refused as refusal:
        draft.children.clear()
        draft.keep_kinds("PersistentVolumeClaim", "Service", "Job")
        draft.stand("Pending", refusal.problem.message)
        draft.stalled = refusal.problem
    goodput.sum_up(draft)
    costs.sum_up(draft, settings)
    return _finish(draft)


def _finish(draft: Draft) -> Plan:
    view = draft.view
    if draft.over:
        draft.children.clear()
        draft.keep_kinds("PersistentVolumeClaim", "Service", "Job")
        if view.spec.ttl_seconds_after_finished is not None:
            draft.wake_in(view.spec.ttl_seconds_after_finished)
    else:
        sidecars.release(draft, lambda child: is_recorded(view.status, child))
    if draft.status.spec_digest is None and (draft.status.prepare_attempt or draft.status.attempt):
        draft.update(spec_digest=frozen.digest_spec(view.resource.get("spec") or {}))
    held = conditions.build_conditions(draft)
    draft.update(
        observed_generation=view.generation,
        phase=conditions.derive_phase(held),
    )
    return Plan(
        status=size.limit({**draft.status.dump(), "conditions": held}),
        children=tuple(draft.children),
        keep=frozenset(draft.keep - {child.id for child in draft.children}),
        events=(*draft.events, *_problem_events(draft)),
        probes=tuple(draft.probes),
        volatile=frozenset() if draft.over else VOLATILE,
        requeue_after=min(draft.wakes, default=None),
    )


def _problem_events(draft: Draft) -> list[Event]:
    """One event when a new reason keeps the job from going on."""
    problem = draft.stalled or draft.warning or draft.problem
    if problem is None or draft.over:
        return []
    ready = next((c for c in draft.view.status.conditions if c.type == "Ready"), None)
    if ready is not None and ready.reason == problem.reason:
        return []
    if problem.reason == "ProgressingWithRetry":
        return []  # the end of the attempt has its own event
    return [Event("Warning", problem.reason, problem.message[:1024])]


def _plan_finished(job: Manifest, seen: Seen, now: datetime, status: TrainingJobStatus) -> Plan:
    """Terminal is sticky: nothing is created any more, and nothing but the job's time to live ends it."""
    generation = int(job["metadata"].get("generation", 0))
    raw: dict[str, Any] = dict(job.get("status") or {})
    if raw.get("observedGeneration") != generation:
        raw["observedGeneration"] = generation
        raw["conditions"] = [{**c.dump(), "observedGeneration": generation} for c in status.conditions]
    ttl = (job.get("spec") or {}).get("ttlSecondsAfterFinished")
    left = None
    if isinstance(ttl, int) and status.completion_time:
        left = (parse_time(status.completion_time) + timedelta(seconds=ttl) - now).total_seconds()
    keep = {f"{c['kind']}/{c['metadata']['name']}" for c in seen.children if c.get("kind") != "Pod"}
    leftovers, later = sidecars.find_leftovers(seen, status.completion_time, now)
    waits = [wait for wait in (left, later) if wait is not None and wait > 0]
    return Plan(
        status=raw,
        keep=frozenset(keep - leftovers),
        requeue_after=min(waits, default=None),
        delete=left is not None and left <= 0,
    )


def _plan_invalid(
    job: Manifest, seen: Seen, now: datetime, status: TrainingJobStatus, problem: Problem
) -> Plan:
    draft = Draft(View(job, seen, now, TrainingJobSpec(), status), status)
    if any(not jobstate.is_complete(j) and not jobstate.is_failed(j) for j in seen.of_kind("Job")):
        problem = Problem(problem.reason, f"{problem.message[:900]} What runs goes on as it was started.")
    draft.stand("Pending", problem.message)
    draft.stalled = problem
    factory.existing(draft)
    draft.keep_kinds("Job")
    return _finish(draft)
