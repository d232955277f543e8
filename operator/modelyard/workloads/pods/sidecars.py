"""Containers that others put into our pods: service meshes, secret agents, log shippers.

A pod runs for as long as one of its containers does, and its Job with it. So a pod whose own container has
ended is at its end, whatever else runs on in it; what holds it open is named, and the Job goes after a grace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from modelyard.engine.plan import Manifest, Seen
from modelyard.workloads import jobstate
from modelyard.workloads.draft import Draft
from modelyard.workloads.pods import podstate
from modelyard.workloads.times import seconds_since

# A well-behaved container leaves soon after ours, and the pod ends by itself.
SETTLE = 3.0
# So long the others may finish what they do (send the last spans, ship the last lines).
GRACE = 30.0


def have_ended(draft: Draft, job: Manifest, pods: list[Manifest]) -> bool:
    """Whether all the Job's pods are at their end although its controller can't see it. Plans to look again."""
    indices = {podstate.index_of(pod) for pod in pods if podstate.is_over(pod)}
    if len(indices) < jobstate.count_desired(job) or not all(podstate.is_over(pod) for pod in pods):
        return False
    return _settled(draft, pods)


def holds_failure(draft: Draft, pods: list[Manifest]) -> bool:
    """Whether a pod has failed although its Job's controller can't see it. Plans to look again."""
    return _settled(draft, [pod for pod in pods if podstate.terminated(pod).get("exitCode")])


def warn(draft: Draft, pods: Iterable[Manifest]) -> None:
    """An event about what holds the pods open, with the pass that takes their end over."""
    message = describe(pods)
    if message:
        draft.emit("Warning", "ContainerRunsOn", message)


def describe(pods: Iterable[Manifest]) -> str:
    """Which container runs on, and the remedy; empty where none does."""
    for pod in pods:
        if podstate.is_held_open(pod):
            name = podstate.list_running_others(pod)[0]
            return (
                f"Container {name} runs on in pod {pod['metadata']['name']}, whose own container has ended:"
                f" the pod is removed after {GRACE:.0f} s. Have it injected as a native sidecar (an init"
                " container with restartPolicy Always), or keep it out by its own label or annotation in"
                " the profile's podLabels or podAnnotations."
            )
    return ""


def release(draft: Draft, is_recorded: Callable[[Manifest], bool]) -> None:
    """Lets go of Jobs that only others' containers keep, once what their pods said is recorded."""
    view = draft.view
    changed = {child.id for child in draft.children}
    for job in view.seen.of_kind("Job"):
        key = f"Job/{job['metadata']['name']}"
        pods = podstate.of_job(view.seen, job)
        if key in changed or key not in draft.keep or not _is_held(pods):
            continue
        draft.notice = describe(pods)
        left = GRACE - _seconds_held(pods, view.now)
        if left > 0:
            draft.wake_in(left)
        elif is_recorded(job):
            draft.keep.discard(key)


def find_leftovers(seen: Seen, ended: str | None, now: datetime) -> tuple[set[str], float | None]:
    """Jobs that would run on although their owner has `ended`; and in how many seconds to look again."""
    running = [
        job for job in seen.of_kind("Job")
        if not jobstate.has_condition(job, *jobstate.END_CONDITIONS)
        and not (jobstate.is_suspended(job) and not jobstate.count_active(job))
    ]  # fmt: skip
    if not running:
        return set(), None
    left = GRACE - seconds_since(ended, now)
    if left > 0:
        return set(), left
    return {f"Job/{job['metadata']['name']}" for job in running}, None


def _settled(draft: Draft, pods: list[Manifest]) -> bool:
    held = [pod for pod in pods if podstate.is_held_open(pod)]
    if not held:
        return False
    left = SETTLE - _seconds_held(held, draft.view.now)
    if left > 0:
        draft.wake_in(left)
    return left <= 0


def _is_held(pods: list[Manifest]) -> bool:
    return all(podstate.is_over(pod) for pod in pods) and any(podstate.is_held_open(pod) for pod in pods)


def _seconds_held(pods: list[Manifest], now: datetime) -> float:
    """Since the last of them has ended. A node's clock may be off; a time that is missing is long ago."""
    ends = [podstate.terminated(pod).get("finishedAt") for pod in pods]
    return min((seconds_since(end, now) for end in ends if end), default=GRACE)
