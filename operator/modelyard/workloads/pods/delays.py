"""Pods that wait: why, as far as their own status says it, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from modelyard.engine.plan import Manifest
from modelyard.workloads import stages
from modelyard.workloads.pods import images, podstate, runtime, scheduling
from modelyard.workloads.problem import Problem
from modelyard.workloads.times import seconds_since

# Mounting and creating takes seconds; so long is no longer normal.
STUCK_AFTER = 60.0
# Reasons that say that something is missing, not what.
VAGUE = frozenset({"VolumePending"})
_NO_NAME = ("InvalidImageName", "ErrInvalidImageName")
_START = ("CreateContainerError", "RunContainerError", "PreStartHookError", "PostStartHookError")


def find_problem(pods: Iterable[Manifest], now: datetime) -> Problem | None:
    """The most telling reason why one of the pods doesn't run."""
    found = [problem for pod in pods if (problem := _find_one(pod, now))]
    order = (
        "InvalidImageName",
        "ContainerCannotRun",
        "ImagePullFailed",
        "CreateContainerConfigError",
        "ClaimNotFound",
        "StorageTerminating",
        "NodeLost",
        "NodeTainted",
        "SchedulingGated",
        "Unschedulable",
        "InitContainerRuns",
        "VolumePending",
    )
    rank = {reason: place for place, reason in enumerate(order)}
    return min(found, key=lambda p: (not p.fatal, rank.get(p.reason, len(order))), default=None)


def _find_one(pod: Manifest, now: datetime) -> Problem | None:
    name = pod["metadata"]["name"]
    if podstate.is_over(pod):
        return None
    if podstate.is_lost(pod, now):
        node = pod["spec"].get("nodeName", "unknown")
        return Problem(
            "NodeLost",
            f"Pod {name} does not stop; its node {node} may be lost: kubectl describe node {node}.",
            name,
        )
    if podstate.is_driven_off(pod):
        node = pod["spec"].get("nodeName", "unknown")
        return Problem(
            "NodeTainted",
            f"Pod {name} must leave its node {node}, which doesn't answer or was tainted: kubectl describe node {node}."
            f" If the pod has not stopped {podstate.LOST_AFTER:.0f} s after {pod['metadata']['deletionTimestamp']}, its"
            " node counts as lost, and it is no longer waited for.",
            name,
        )
    status = podstate.status_of(pod)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason, message = str(condition.get("reason", "")), str(condition.get("message", ""))
            return scheduling.explain(name, podstate.stage_of(pod), reason, message)
    ours = (podstate.main_container(pod), stages.AGENT_CONTAINER)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        problem = _explain_waiting(name, container, own=container.get("name") in ours)
        if problem is not None:
            return problem
    if (
        status.get("phase") == "Pending"
        and seconds_since(pod["metadata"].get("creationTimestamp"), now) > STUCK_AFTER
    ):
        return _explain_delay(pod)
    return None


def _explain_waiting(pod: str, container: dict[str, Any], own: bool) -> Problem | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), str(waiting.get("message", ""))
    image, name = str(container.get("image", "")), str(container.get("name", ""))
    if reason in _NO_NAME:
        return Problem(
            "InvalidImageName",
            f"Container {name} of pod {pod} names image {image!r}, which is no image's name:"
            f" {podstate.first_line(message)}. Correct it in the spec or the profile; a TrainingJob must then be"
            " created anew.",
            pod,
            fatal=own,
        )
    if reason in images.REASONS:
        return images.explain(pod, image, message)
    if reason == "CreateContainerConfigError":
        return Problem(
            reason,
            f"Container {name} of pod {pod} can't be started: {podstate.first_line(message)}. Create what is missing;"
            " the pod then starts by itself.",
            pod,
        )
    if reason in _START:
        text = runtime.explain(pod, name, image, message)
        return Problem("ContainerCannotRun", text, pod, fatal=own and runtime.is_hopeless(message))
    return None


def _explain_delay(pod: Manifest) -> Problem | None:
    """Of a pod that has been pending for long, although nothing says that it can't start."""
    name, status = pod["metadata"]["name"], podstate.status_of(pod)
    if not pod["spec"].get("nodeName"):
        return Problem(
            "Unschedulable",
            f"No scheduler has looked at pod {name}: check schedulerName in the podTemplate, and whether that"
            " scheduler runs.",
            name,
        )
    if not podstate.has_sandbox(status):
        return Problem(
            "VolumePending", f"Pod {name} waits for its volumes: kubectl describe pod {name}.", name
        )
    for init in status.get("initContainerStatuses") or []:
        if "running" in (init.get("state") or {}) and not init.get("ready"):
            return Problem(
                "InitContainerRuns",
                f"Pod {name} waits for its init container {init.get('name')}, which has not ended or is not"
                f" ready: kubectl logs {name} -c {init.get('name')}.",
                name,
            )
    return None  # a large image may be pulled for minutes
