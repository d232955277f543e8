"""The prepare stage: one Job at a time, until the data is there."""

from __future__ import annotations

from modelyard.api.profile import Settings
from modelyard.api.status import Counters, DataStatus, Removed
from modelyard.contract import layout
from modelyard.contract.report import PrepareResult
from modelyard.engine.plan import Manifest
from modelyard.training import (
    claims,
    creation,
    jobs,
    jobstate,
    names,
    podstate,
    progress,
    restarts,
    upkeep,
)
from modelyard.training.draft import Draft
from modelyard.training.ending import Ending, classify_single, read_result
from modelyard.training.problem import Problem
from modelyard.training.view import seconds_since

# How long a Job's condition may be ahead of its pods in the watch cache.
CACHE_LAG = 5.0
QUEUED = Problem("Queued", "The job waits in its queue.")


def advance(draft: Draft, settings: Settings) -> bool:
    """Goes on with preparing. True once the data is ready (then the train stage goes on in the same pass)."""
    view = draft.view
    found = names.find_jobs(view.seen.children, view.name, "prepare")
    index = max(found, default=0)
    if view.status.data is not None:
        if index:
            draft.keep_object(found[index])
        return True
    job = found.get(index)
    if job is None:
        _start(draft, settings, view.status.prepare_attempt + 1)
        return False
    recorded = view.status.prepare_attempt == index and view.status.retry_time is not None
    if index > view.status.prepare_attempt:
        start = view.status.start_time or job["metadata"].get("creationTimestamp")
        draft.update(prepare_attempt=index, retry_time=None, start_time=start)
    draft.keep_object(job)
    pods = podstate.of_job(view.seen, job)
    if jobstate.is_failed(job):
        draft.data_failure = _find_failure(draft, job)
    elif previous := found.get(index - 1):
        # It stays until this one has ended: it says why there is another try.
        draft.keep_object(previous)
        draft.data_failure = _find_failure(draft, previous)
    if jobstate.is_complete(job) or jobstate.is_failed(job):
        if not recorded and _is_behind(draft, job, pods):
            return False
        return _finish(draft, settings, job, pods, index, recorded)
    creation.existing(draft)
    claims.warn(draft, progress.place_of(job).claim)
    missing = upkeep.keep_run_config(draft, settings, job)
    _watch(draft, job, pods)
    if missing is not None and not draft.pods_ready and draft.stage == "Preparing":
        draft.problem = missing
    return False


def _start(draft: Draft, settings: Settings, index: int) -> None:
    view = draft.view
    if view.spec.suspend:
        draft.stand("Suspended", "spec.suspend is true; set it to false to go on.")
        creation.check(view, settings)
        draft.keep_kinds("PersistentVolumeClaim", "ConfigMap")
        return
    draft.stand("Preparing", "The data is being prepared.")
    creation.create_prepare(draft, settings, index)


def _watch(draft: Draft, job: Manifest, pods: list[Manifest]) -> None:
    view = draft.view
    held = jobstate.is_suspended(job)
    if held and not view.spec.suspend and names.QUEUE_LABEL in (job["metadata"].get("labels") or {}):
        draft.stand("Queued", QUEUED.message, QUEUED)
        return
    if view.spec.suspend or held:
        busy = jobstate.count_active(job) > 0 or any(not podstate.is_over(pod) for pod in pods)
        if not busy and held:
            # Preparing begins again under a new name; what was fetched is found in storage.
            draft.keep.discard(f"Job/{job['metadata']['name']}")
            if view.spec.suspend:
                draft.stand("Suspended", "spec.suspend is true; set it to false to go on.")
            else:
                draft.stand("Preparing", "Preparing the data was stopped by someone else; it begins again.")
            return
        draft.children.append(jobs.stop_job(job))
        draft.stand("Suspending" if view.spec.suspend else "Stopping", "Preparing the data is being stopped.")
        return
    problem = podstate.find_problem(pods, view.now)
    draft.pods_ready = any(podstate.is_running(pod) for pod in pods)
    age = seconds_since(_created(job), view.now)
    if not draft.pods_ready and age <= podstate.STUCK_AFTER:
        draft.wake_in(podstate.STUCK_AFTER + 1 - age)
    name = job["metadata"]["name"]
    draft.stand("Preparing", f"The data is being prepared: kubectl logs job/{name}.", problem)


def _finish(
    draft: Draft, settings: Settings, job: Manifest, pods: list[Manifest], index: int, recorded: bool
) -> bool:
    view = draft.view
    result = next((r for pod in pods if (r := read_result(pod, PrepareResult))), None)
    if result and result.outcome == "succeeded" and result.digest:
        draft.update(data=_build_data(job, result))
        draft.emit("Normal", "DataReady", "The data is prepared.")
        return True
    creation.existing(draft)
    if not recorded:
        if jobstate.is_complete(job):
            # The result is in storage under the data's digest: preparing again only finds it.
            draft.retry_in(0.0)
        else:
            _record(draft, pods, index, result)
        if draft.over:
            return False
    message = "Preparing the data was interrupted by the infrastructure; it is tried again."
    if view.spec.suspend:
        draft.stand("Suspended", "spec.suspend is true; set it to false to go on.")
    elif draft.wait_for_retry() or not recorded:
        draft.stand("Preparing", message, Problem("ProgressingWithRetry", message))
    else:
        draft.keep.clear()
        draft.keep_object(job)
        draft.stand("Preparing", "The data is being prepared.")
        creation.create_prepare(draft, settings, index + 1)
    return False


def _find_failure(draft: Draft, job: Manifest) -> Problem | None:
    """What a failed try told, in its own words."""
    for pod in podstate.of_job(draft.view.seen, job):
        if (result := read_result(pod, PrepareResult)) and result.failure:
            failure = classify_single(pod, result.failure).failure
            return Problem(failure.reason, f"{failure.message} It is tried again.") if failure else None
    return None


def _record(draft: Draft, pods: list[Manifest], index: int, result: PrepareResult | None) -> None:
    policy = draft.view.spec.failure_policy
    failed = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed"]
    ending = Ending("Infrastructure")
    if failed:
        ending = classify_single(failed[0], result.failure if result else None)
    counters = restarts.count(draft.status.counters or Counters(), ending.cause)
    draft.update(counters=counters)
    failure = ending.failure
    message = failure.message if failure else "The pod that prepared the data is gone."
    if ending.fatal and failure:
        draft.fail(Problem(failure.reason, message))
    elif counters.infra_failures > policy.max_infra_restarts:
        draft.fail(
            Problem(
                "RestartLimit",
                f"The infrastructure failed more often than maxInfraRestarts allows. {message}",
            )
        )
    else:
        draft.emit("Warning", "PrepareInterrupted", message)
        draft.retry_in(restarts.doubled(policy.backoff, index - 1))


def _is_behind(draft: Draft, job: Manifest, pods: list[Manifest]) -> bool:
    since = seconds_since(
        jobstate.condition_time(job, "Complete", "SuccessCriteriaMet", "Failed"), draft.view.now
    )
    if all(podstate.is_over(pod) for pod in pods) or since > CACHE_LAG:
        return False
    creation.existing(draft)
    draft.stand("Preparing", "The data is being prepared.")
    draft.wake_in(1.0)
    return True


def _build_data(job: Manifest, result: PrepareResult) -> DataStatus:
    digest = str(result.digest)
    return DataStatus(
        digest=digest,
        rows_in=result.rows_in,
        rows_out=result.rows_out,
        removed=[Removed(step=r.step, reason=r.reason, rows=r.rows) for r in result.removed],
        splits=result.splits,
        report_uri=f"{progress.place_of(job).uri}/{layout.dataset_dir(digest)}/{layout.REPORT}",
        cache_hit=result.cache_hit,
        model_digest=result.model_digest,
        model_revision=result.model_revision,
    )


def _created(job: Manifest) -> str | None:
    created = job["metadata"].get("creationTimestamp")
    return str(created) if created else None
