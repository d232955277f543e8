"""The build: one Job at a time, until there is a package."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

from modelyard.api.conditions import ConditionType, format_time
from modelyard.api.deploymentstatus import BuildStatus
from modelyard.contract.build import BuildConfig, BuildResult
from modelyard.engine.plan import Child, Manifest
from modelyard.serving import names
from modelyard.serving.building import package
from modelyard.serving.building.ending import classify
from modelyard.serving.children import builds
from modelyard.serving.children.site import Site
from modelyard.serving.draft import Draft
from modelyard.serving.source import Source
from modelyard.workloads import jobstate, refusal
from modelyard.workloads.pods import podstate, startup
from modelyard.workloads.pods.ending import read_result
from modelyard.workloads.problem import Problem
from modelyard.workloads.times import parse_time, seconds_since

FIRST_WAIT, LONGEST_WAIT = 10.0, 600.0
# After a try that ended for good: what it failed of may have been mended where we don't see it.
FIRST_PAUSE, LONGEST_PAUSE = 600.0, 6 * 3600.0
# Tries in succession that died of themselves; each of them is three pods.
MOST_DEATHS = 3
# How long a Job's condition may be ahead of its pods in the watch cache.
_LAG = 5.0
_BUILT = ConditionType.BUILT


def advance(draft: Draft, site: Site, source: Source, build_id: str, config: BuildConfig) -> bool:
    """Goes on with the build of this id. True once its package is what the status tells of."""
    found = _find_jobs(draft, build_id)
    known = draft.status.compression
    if known is not None and known.digest == build_id:
        draft.update(build=None)
        draft.keep_object(*([found[max(found)]] if found else []))
        draft.hold(_BUILT, "True", "Built", "The model is read and measured; see status.compression.")
        return True
    state = _find_state(draft, build_id, max(found, default=0))
    draft.update(build=state if state.attempt else None)
    job = found.get(state.attempt)
    pods = podstate.of_job(draft.view.seen, job) if job else []
    told = [r for pod in pods if (r := read_result(pod, BuildResult))]
    result = next((r for r in told if r.outcome == "succeeded"), told[-1] if told else None)
    if job is not None and result is not None and _take(draft, source, state, result):
        draft.keep_object(job)
        return True

    # Made only where it is asked for: while a try runs, each pass would make it for nothing.
    @cache
    def following() -> Child:
        return builds.build_job(site, draft.view.spec.server, build_id, config, state.attempt + 1)

    def is_mended() -> bool:
        return job is None or builds.read_template(job) != builds.read_template(following().manifest)

    if state.failed or state.retry_time is not None:
        left = _count_wait(draft, state, mended=state.failed and is_mended())
        if left <= 0:
            _begin(draft, following(), state, found)
            return False
        draft.keep_object(*found.values())
        draft.wake_in(left)
        _tell_end(draft, state)
    elif job is not None and not any(map(_has_started, pods)) and is_mended():
        # Written down first: the next pass puts another Job in its place, which may be refused.
        draft.keep_object(job)
        draft.update(build=state.changed(retry_time=format_time(draft.view.now)))
        _wait(draft, state)
    elif job is not None:
        draft.keep_object(job)
        _look(draft, state, job, pods, result)
    elif state.attempt:
        gone = f"Job {names.build_job(draft.view.name, build_id, state.attempt)}, which built the model, was deleted."
        _record(draft, state, Problem("JobDeleted", gone))
    else:
        _begin(draft, following(), state, found)
    return False


def _find_state(draft: Draft, build_id: str, newest: int) -> BuildStatus:
    """How far this build is. A try has begun once its Job is there: one that is refused changes nothing."""
    state = draft.status.build
    if state is None or state.digest != build_id:
        return BuildStatus(digest=build_id, attempt=newest)
    if newest <= state.attempt:
        return state
    return BuildStatus(
        digest=build_id, attempt=newest, reason=state.reason, message=state.message, deaths=state.deaths
    )


def _take(draft: Draft, source: Source, state: BuildStatus, result: BuildResult) -> bool:
    recorded = package.record(state.digest, source, result) if result.outcome == "succeeded" else None
    if recorded is None:
        return False
    model, compression = recorded
    draft.update(model=model, compression=compression, build=None)
    draft.emit("Normal", "Built", f"The model is built; {compression.chosen} is served.")
    draft.hold(_BUILT, "True", "Built", "The model is read and measured; see status.compression.")
    return True


def _begin(draft: Draft, job: Child, state: BuildStatus, earlier: dict[int, Manifest]) -> None:
    """The first try, or the next one; earlier ones have said what they had to say, and go."""
    if draft.view.spec.suspend:
        draft.keep_object(*earlier.values())
        draft.hold(_BUILT, "False", "Suspended", "spec.suspend is true; set it to false to go on.")
        return
    draft.children.append(job)
    _wait(draft, state)


def _count_wait(draft: Draft, state: BuildStatus, *, mended: bool) -> float:
    """Seconds until the next try. One that had failed for good waits no longer than others once its Job is `mended`."""
    if state.retry_time is None:
        return 0.0
    left = (parse_time(state.retry_time) - draft.view.now).total_seconds()
    if state.failed and mended:
        left -= _double(FIRST_PAUSE, LONGEST_PAUSE, state) - _double(FIRST_WAIT, LONGEST_WAIT, state)
    return left


def _double(first: float, longest: float, state: BuildStatus) -> float:
    return float(min(first * 2.0 ** min(state.attempt - 1, 16), longest))


def _has_started(pod: Manifest) -> bool:
    return podstate.is_running(pod) or podstate.is_over(pod)


def _look(
    draft: Draft, state: BuildStatus, job: Manifest, pods: list[Manifest], result: BuildResult | None
) -> None:
    view = draft.view
    ended = jobstate.is_complete(job) or jobstate.is_failed(job)
    lost = any(podstate.is_lost(pod, view.now) for pod in pods)
    if ended and not all(podstate.is_over(pod) for pod in pods):
        at = jobstate.condition_time(job, *jobstate.END_CONDITIONS)
        if seconds_since(at, view.now) <= _LAG:
            draft.wake_in(1.0)
            _wait(draft, state)
            return
    if ended or lost:
        figures = package.describe(result.variants) if result is not None else []
        end = classify(job, pods, result)
        deaths = state.deaths + 1 if end.died else 0
        _record(draft, state.changed(variants=figures, deaths=deaths), end.problem)
        return
    problem = startup.find_problem(draft, pods) or refusal.find(draft, job, pods)
    if problem is not None and problem.fatal:
        _record(draft, state, problem)
        return
    for pod in pods:
        if (seconds := podstate.seconds_until_lost(pod, view.now)) is not None:
            draft.wake_in(seconds)
    _wait(draft, state, problem)


def _record(draft: Draft, state: BuildStatus, problem: Problem) -> None:
    """How a try ended, and when the next one begins."""
    message = problem.message
    if state.deaths >= MOST_DEATHS:
        message = f"{message} {state.deaths} Jobs in succession have died like that."
    failed = problem.fatal or state.deaths >= MOST_DEATHS
    wait = _double(*((FIRST_PAUSE, LONGEST_PAUSE) if failed else (FIRST_WAIT, LONGEST_WAIT)), state)
    state = state.changed(
        reason=problem.reason,
        message=message,
        failed=failed,
        retry_time=format_time(draft.view.now + timedelta(seconds=wait)),
    )
    draft.update(build=state)
    draft.emit("Warning", problem.reason if failed else "BuildInterrupted", message)
    draft.wake_in(wait)
    _tell_end(draft, state)


def _tell_end(draft: Draft, state: BuildStatus) -> None:
    """Why the last try has left nothing."""
    if not state.failed:
        _wait(draft, state)
        return
    name = names.build_job(draft.view.name, state.digest, state.attempt)
    problem = Problem(
        state.reason or "BuildFailed",
        f"{_end(state.message)} It is tried again late; soon after kubectl delete job {name}.",
        fatal=True,
    )
    draft.miss(_BUILT, problem)
    draft.stalled = problem


def _wait(draft: Draft, state: BuildStatus, problem: Problem | None = None) -> None:
    if problem is None and state.reason is not None:
        problem = Problem(state.reason, f"{_end(state.message)} It is tried again.")
    draft.miss(_BUILT, problem or Problem("Building", "The model is being read and measured."))


def _end(sentence: str | None) -> str:
    return f"{(sentence or '').rstrip('. ')}."


def _find_jobs(draft: Draft, build_id: str) -> dict[int, Manifest]:
    """The tries at this build, by their numbers."""
    found = {}
    for job in draft.view.seen.of_kind("Job"):
        labels = job["metadata"].get("labels") or {}
        number = str(job["metadata"]["name"]).rpartition("-")[2]
        if labels.get(names.BUILD_LABEL) == build_id and number.isdigit():
            found[int(number)] = job
    return found
