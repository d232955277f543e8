"""The build: one Job at a time, until there is a package."""

from __future__ import annotations

from datetime import timedelta

from modelyard.api.conditions import ConditionType, format_time
from modelyard.api.deploymentstatus import BuildStatus
from modelyard.contract import codes
from modelyard.contract.build import BuildConfig, BuildResult
from modelyard.engine.plan import Manifest
from modelyard.serving import names
from modelyard.serving.building import package
from modelyard.serving.children import builds
from modelyard.serving.children.site import Site
from modelyard.serving.draft import Draft
from modelyard.serving.source import Source
from modelyard.workloads import jobstate, refusal
from modelyard.workloads.pods import podstate, startup, surroundings
from modelyard.workloads.pods.ending import find_detail, has_failed, is_disrupted, read_result
from modelyard.workloads.problem import Problem
from modelyard.workloads.reasons import as_reason
from modelyard.workloads.times import parse_time, seconds_since

FIRST_WAIT, LONGEST_WAIT = 10.0, 600.0
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
    state = draft.status.build
    if state is None or state.digest != build_id:
        # An operator that died before it wrote what it had begun finds the Job.
        state = BuildStatus(digest=build_id, attempt=max(found, default=0))
    draft.update(build=state)
    if state.failed:
        draft.keep_object(*found.values())
        _fail(draft, state)
        return False
    job = found.get(max(found, default=0))
    if job is None or (state.retry_time is not None and max(found) == state.attempt):
        draft.keep_object(*found.values())
        _begin(draft, site, build_id, config, state)
        return False
    attempt = max(found)
    if attempt > state.attempt:
        state = BuildStatus(digest=build_id, attempt=attempt, reason=state.reason, message=state.message)
        draft.update(build=state)
    draft.keep_object(job)
    return _look(draft, source, state, job)


def _begin(draft: Draft, site: Site, build_id: str, config: BuildConfig, state: BuildStatus) -> None:
    """The first try, or the next one once it is time."""
    if draft.view.spec.suspend:
        draft.hold(_BUILT, "False", "Suspended", "spec.suspend is true; set it to false to go on.")
        return
    if state.retry_time is not None:
        left = (parse_time(state.retry_time) - draft.view.now).total_seconds()
        if left > 0:
            draft.wake_in(left)
            _wait(draft, state)
            return
    attempt = state.attempt + 1
    child = builds.build_job(site, draft.view.spec.server, build_id, config, attempt)
    draft.keep.clear()  # earlier tries have said what they had to say
    draft.children.append(child)
    draft.update(build=state.changed(attempt=attempt, retry_time=None))
    _wait(draft, state)


def _look(draft: Draft, source: Source, state: BuildStatus, job: Manifest) -> bool:
    view = draft.view
    pods = podstate.of_job(view.seen, job)
    told = [r for pod in pods if (r := read_result(pod, BuildResult))]
    result = next((r for r in told if r.outcome == "succeeded"), told[-1] if told else None)
    if result is not None and result.outcome == "succeeded":
        recorded = package.record(state.digest, source, result)
        if recorded is not None:
            model, compression = recorded
            draft.update(model=model, compression=compression, build=None)
            draft.emit("Normal", "Built", f"The model is built; {compression.chosen} is served.")
            draft.hold(_BUILT, "True", "Built", "The model is read and measured; see status.compression.")
            return True
    ended = jobstate.is_complete(job) or jobstate.is_failed(job)
    lost = any(podstate.is_lost(pod, view.now) for pod in pods)
    if ended and not all(podstate.is_over(pod) for pod in pods):
        at = jobstate.condition_time(job, *jobstate.END_CONDITIONS)
        if seconds_since(at, view.now) <= _LAG:
            draft.wake_in(1.0)
            _wait(draft, state)
            return False
    if ended or lost:
        figures = package.describe(result.variants) if result is not None else []
        _record(draft, state.changed(variants=figures), _classify(job, pods, result))
        return False
    problem = startup.find_problem(draft, pods) or refusal.find(draft, job, pods)
    if problem is not None and problem.fatal:
        _record(draft, state, problem)
        return False
    for pod in pods:
        if (seconds := podstate.seconds_until_lost(pod, view.now)) is not None:
            draft.wake_in(seconds)
    _wait(draft, state, problem)
    return False


def _record(draft: Draft, state: BuildStatus, problem: Problem) -> None:
    """How a try ended; when the next one begins, unless it would end the same way."""
    wait = min(FIRST_WAIT * 2.0 ** min(state.attempt - 1, 16), LONGEST_WAIT)
    retry = None if problem.fatal else format_time(draft.view.now + timedelta(seconds=wait))
    state = state.changed(
        reason=problem.reason, message=problem.message, failed=problem.fatal, retry_time=retry
    )
    draft.update(build=state)
    if problem.fatal:
        draft.emit("Warning", problem.reason, problem.message)
        _fail(draft, state)
    else:
        draft.emit("Warning", "BuildInterrupted", problem.message)
        draft.wake_in(wait)
        _wait(draft, state)


def _fail(draft: Draft, state: BuildStatus) -> None:
    problem = Problem(state.reason or "BuildFailed", state.message or "", fatal=True)
    draft.miss(_BUILT, problem)
    draft.stalled = problem


def _wait(draft: Draft, state: BuildStatus, problem: Problem | None = None) -> None:
    if problem is None and state.reason is not None:
        problem = Problem(state.reason, f"{state.message} It is tried again.")
    draft.miss(_BUILT, problem or Problem("Building", "The model is being read and measured."))


def _classify(job: Manifest, pods: list[Manifest], result: BuildResult | None) -> Problem:
    """Why a try left no package."""
    name = job["metadata"]["name"]
    # The latest says most: earlier ones were followed by another try.
    latest = sorted(pods, key=lambda p: str(p["metadata"].get("creationTimestamp") or ""), reverse=True)
    pod = next((pod for pod in latest if has_failed(pod) or not podstate.is_over(pod)), None)
    if pod is None:
        return Problem("ResultLost", f"Job {name} has ended, but the word of its pod is lost.")
    around = surroundings.find_problem(pod)
    if around is not None:
        return around
    pod_name, end = pod["metadata"]["name"], podstate.terminated(pod)
    if end.get("reason") == "OOMKilled":
        return Problem(
            "HostOutOfMemory",
            f"Pod {pod_name}, which builds the model, used more than its memory limit. Raise"
            " spec.server.resources.limits.memory.",
            pod_name,
            fatal=True,
        )
    told = result.failure if result else None
    temporary = end.get("exitCode") != codes.EXIT_USER_ERROR
    if is_disrupted(pod) or told is None:
        message = f"Pod {pod_name}, which builds the model, has ended. {find_detail(pod)}".strip()
        return Problem("PodFailed", f"{message} See kubectl logs {pod_name}.", pod_name)
    return Problem(as_reason(told.reason, "BuildFailed"), told.message, pod_name, fatal=not temporary)


def _find_jobs(draft: Draft, build_id: str) -> dict[int, Manifest]:
    """The tries at this build, by their numbers."""
    found = {}
    for job in draft.view.seen.of_kind("Job"):
        labels = job["metadata"].get("labels") or {}
        number = str(job["metadata"]["name"]).rpartition("-")[2]
        if labels.get(names.BUILD_LABEL) == build_id and number.isdigit():
            found[int(number)] = job
    return found
