"""The prepare stage: one Job at a time, until the data is there."""

from __future__ import annotations

from modelyard.api.conditions import format_time
from modelyard.api.profile import Settings
from modelyard.api.status import Counters, DataStatus, Failure, Removed
from modelyard.contract import layout
from modelyard.contract.report import PrepareResult
from modelyard.engine.plan import Manifest
from modelyard.training import names
from modelyard.training.attempts import deadline, departure, restarts
from modelyard.training.attempts.ending import Ending, classify_single
from modelyard.training.children import claims, factory, holders, jobs
from modelyard.training.draft import Draft
from modelyard.training.preparation import warnings
from modelyard.training.status import costs, progress
from modelyard.workloads import jobstate, refusal
from modelyard.workloads.pods import delays, podstate, sidecars, startup
from modelyard.workloads.pods.ending import has_failed, read_result
from modelyard.workloads.problem import Problem
from modelyard.workloads.times import seconds_since

# How long a Job's condition may be ahead of its pods in the watch cache.
CACHE_LAG = 5.0
_INTERRUPTED = "Preparing the data was interrupted by the infrastructure; it is tried again."


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
        _replace(draft, settings)
        return False
    recorded = view.status.prepare_attempt == index and view.status.retry_time is not None
    if index > view.status.prepare_attempt:
        start = view.status.start_time or job["metadata"].get("creationTimestamp")
        draft.update(prepare_attempt=index, retry_time=None, start_time=start)
    draft.keep_object(job)
    pods = podstate.of_job(view.seen, job)
    if (failure := _find_failure(draft, job)) is not None:
        draft.data_failure = failure
    elif previous := found.get(index - 1):
        # It stays until this one has ended: it says why there is another try.
        draft.keep_object(previous)
        draft.data_failure = _find_failure(draft, previous)
    ended = jobstate.is_complete(job) or jobstate.is_failed(job)
    lost = any(podstate.is_lost(pod, view.now) for pod in pods)
    if recorded or ended or lost or sidecars.have_ended(draft, job, pods):
        if ended and not recorded and _is_behind(draft, job, pods):
            return False
        if not recorded:
            costs.settle(draft, job, _count_seconds(draft, job, pods))
        return _finish(draft, settings, job, pods, index, recorded)
    factory.existing(draft)
    claims.warn(draft, progress.place_of(job).claim)
    costs.note(draft, job, _count_seconds(draft, job, pods))
    _watch(draft, job, pods)
    return False


def _replace(draft: Draft, settings: Settings) -> None:
    """Where there is no Job: the first one, the next one when it is time, or one for what others deleted."""
    view = draft.view
    waits = draft.wait_for_retry()
    deleted = view.status.prepare_attempt > 0 and view.status.retry_time is None and not view.seen.rejections
    if view.spec.suspend or not (waits or deleted):
        _start(draft, settings, view.status.prepare_attempt + 1)
        return
    factory.existing(draft)
    if deleted:
        failure = Failure(reason="JobDeleted", message="The Job that prepared the data was deleted.")
        costs.settle(draft, None, 0)
        _record(draft, Ending("Infrastructure", failure), view.status.prepare_attempt)
    if not draft.over:
        draft.stand("Preparing", _INTERRUPTED, Problem("ProgressingWithRetry", _INTERRUPTED))


def _start(draft: Draft, settings: Settings, index: int) -> None:
    view = draft.view
    if view.spec.suspend:
        draft.stand("Suspended", "spec.suspend is true; set it to false to go on.")
        factory.check(view, settings)
        draft.keep_kinds("PersistentVolumeClaim")
        return
    draft.stand("Preparing", "The data is being prepared.")
    factory.create_prepare(draft, settings, index)


def _watch(draft: Draft, job: Manifest, pods: list[Manifest]) -> None:
    view = draft.view
    departure.plan_looks(draft, pods)
    held = jobstate.is_suspended(job)
    busy = jobstate.count_active(job) > 0 or any(not podstate.is_over(pod) for pod in pods)
    if held and not view.spec.suspend and (held_by := holders.find_holder(view, job, busy or bool(pods))):
        draft.stand("Queued" if held_by.reason == "Queued" else "Preparing", held_by.message, held_by)
        return
    if view.spec.suspend or held:
        if not busy and held:
            # Preparing begins again under a new name; what was fetched is found in storage.
            costs.settle(draft, job, _count_seconds(draft, job, pods))
            draft.keep.discard(f"Job/{job['metadata']['name']}")
            # At once when the user resumes; ever later where another controller does this again and again.
            wait = restarts.doubled(view.spec.failure_policy.backoff, draft.status.prepare_attempt - 1)
            draft.update(retry_time=format_time(view.now))
            if view.spec.suspend:
                draft.stand("Suspended", "spec.suspend is true; set it to false to go on.")
            else:
                draft.retry_in(wait)
                draft.stand("Preparing", "Preparing the data was stopped by someone else; it begins again.")
            return
        draft.children.append(jobs.stop_job(job))
        draft.stand("Suspending" if view.spec.suspend else "Stopping", "Preparing the data is being stopped.")
        return
    problem = startup.find_problem(draft, pods) or refusal.find(draft, job, pods)
    if problem is not None and problem.fatal:
        failure = Failure(reason=problem.reason, message=problem.message, pod=problem.pod)
        costs.settle(draft, job, _count_seconds(draft, job, pods))
        _record(draft, Ending("UserError", failure, fatal=True), view.status.prepare_attempt)
        return
    problem = claims.explain_delay(draft, progress.place_of(job).claim, pods, problem)
    draft.pods_ready = any(podstate.is_running(pod) for pod in pods)
    age = seconds_since(_created(job), view.now)
    if not draft.pods_ready and age <= delays.STUCK_AFTER:
        draft.wake_in(delays.STUCK_AFTER + 1 - age)
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
        warnings.tell(draft)
        sidecars.warn(draft, pods)
        return True
    factory.existing(draft)
    if not recorded:
        sidecars.warn(draft, pods)
        _record(draft, departure.find_loss(pods, view.now) or _classify(job, pods, result), index)
        if draft.over:
            return False
    if view.spec.suspend:
        draft.stand("Suspended", "spec.suspend is true; set it to false to go on.")
    elif draft.wait_for_retry() or not recorded:
        draft.stand("Preparing", _INTERRUPTED, Problem("ProgressingWithRetry", _INTERRUPTED))
    else:
        draft.keep.clear()
        draft.keep_object(job)
        draft.stand("Preparing", "The data is being prepared.")
        factory.create_prepare(draft, settings, index + 1)
    return False


def _find_failure(draft: Draft, job: Manifest) -> Problem | None:
    """What a failed try told, in its own words."""
    for pod in podstate.of_job(draft.view.seen, job):
        if (result := read_result(pod, PrepareResult)) and result.failure:
            failure = classify_single(pod, result.failure).failure
            return Problem(failure.reason, f"{failure.message} It is tried again.") if failure else None
    return None


def _classify(job: Manifest, pods: list[Manifest], result: PrepareResult | None) -> Ending:
    """Why a try left no data."""
    failed = [pod for pod in pods if has_failed(pod)]
    if failed:
        return classify_single(failed[0], result.failure if result else None)
    name = job["metadata"]["name"]
    if pods or jobstate.is_complete(job):
        # Its data is in storage under its digest: the next try only finds it.
        message = f"Job {name} has ended well, but the word of its pod is lost."
        return Ending("Infrastructure", Failure(reason="ResultLost", message=message))
    message = f"The pod of Job {name}, which prepared the data, is gone without a word."
    return Ending("Infrastructure", Failure(reason="PodsVanished", message=message))


def _record(draft: Draft, ending: Ending, index: int) -> None:
    policy = draft.view.spec.failure_policy
    counters = restarts.count(draft.status.counters or Counters(), ending.cause)
    draft.update(counters=counters)
    failure = ending.failure
    message = failure.message if failure else ""
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
    factory.existing(draft)
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
        warnings=warnings.bound(result.warnings),
        report_uri=f"{progress.place_of(job).uri}/{layout.dataset_dir(digest)}/{layout.REPORT}",
        cache_hit=result.cache_hit,
        model_digest=result.model_digest,
        model_revision=result.model_revision,
    )


def _count_seconds(draft: Draft, job: Manifest, pods: list[Manifest]) -> int:
    """For which its pods have been active by now."""
    start, end = deadline.active_span(job, pods, draft.view.now)
    return int((end - start).total_seconds()) if start else 0


def _created(job: Manifest) -> str | None:
    created = job["metadata"].get("creationTimestamp")
    return str(created) if created else None
