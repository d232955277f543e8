"""Reading a finished attempt's result back from storage, where it was lost with its pods."""

from __future__ import annotations

from modelyard.api.profile import Settings
from modelyard.contract import codes
from modelyard.contract.report import TrainResult
from modelyard.engine.plan import Manifest
from modelyard.training import names
from modelyard.training.children import factory, holders
from modelyard.training.draft import Draft
from modelyard.workloads import jobstate, refusal
from modelyard.workloads.pods import podstate, sidecars, startup
from modelyard.workloads.pods.ending import read_result
from modelyard.workloads.times import seconds_since

_LAG = 5.0


def advance(draft: Draft, settings: Settings, attempt: int) -> TrainResult | None:
    """The result, once the collect Job has it."""
    job = _find(draft, attempt)
    draft.stand("Evaluating", "The training has ended; its result is read back from storage.")
    if job is None:
        factory.create_collect(draft, settings, attempt)
        return None
    draft.keep_object(job)
    pods = podstate.of_job(draft.view.seen, job)
    for pod in pods:
        result = read_result(pod, TrainResult)
        # An earlier attempt's result may lie there, if this one's was never written.
        if result and result.attempt == attempt and result.outcome in (codes.SUCCEEDED, codes.GATE_FAILED):
            return result
    if jobstate.is_complete(job) or jobstate.is_failed(job):
        draft.wake_in(1.0)
    elif jobstate.is_suspended(job):
        draft.problem = holders.find_holder(draft.view, job, has_run=False)
    elif not sidecars.have_ended(draft, job, pods):
        draft.problem = startup.find_problem(draft, pods) or refusal.find(draft, job, pods)
    return None


def has_failed(draft: Draft, attempt: int) -> bool:
    """Whether the collect Job ended without a result."""
    job = _find(draft, attempt)
    if job is None:
        return False
    if draft.problem is not None and draft.problem.fatal:
        return True
    if not (jobstate.is_complete(job) or jobstate.is_failed(job)):
        return sidecars.have_ended(draft, job, podstate.of_job(draft.view.seen, job))
    return seconds_since(jobstate.condition_time(job, "Complete", "Failed"), draft.view.now) > _LAG


def _find(draft: Draft, attempt: int) -> Manifest | None:
    return names.find_jobs(draft.view.seen.children, draft.view.name, "collect").get(attempt)
