"""Why pods don't run: read from the pods themselves, since events are lost and status isn't."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from modelyard.engine.plan import Manifest, Seen
from modelyard.training import names
from modelyard.training.problem import Problem
from modelyard.training.view import parse_time, seconds_since

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
# A pod that is being deleted and still here so long after its grace period has lost its node.
LOST_AFTER = 30.0
# Mounting and creating takes seconds; so long is no longer normal.
STUCK_AFTER = 60.0
_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ErrInvalidImageName")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_GOING = re.compile(r'persistentvolumeclaim "([^"]+)" is being deleted')
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')


def of_job(seen: Seen, job: Manifest) -> list[Manifest]:
    """The Job's own pods by their owner's uid, with those that are gone but had ended before.

    A pod that was deleted vanishes as soon as it has ended; what it said is then in its last state only. Once
    another pod stands in its place it no longer counts.
    """
    uid = job["metadata"].get("uid")
    there = [pod for pod in seen.of_kind("Pod") if _belongs(pod, uid)]
    places = {index_of(pod) for pod in there}
    gone = [pod for pod in seen.departed if pod["kind"] == "Pod" and _belongs(pod, uid) and is_over(pod)]
    return [*(pod for pod in gone if index_of(pod) not in places), *there]


def _belongs(pod: Manifest, uid: str | None) -> bool:
    return any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences", []))


def index_of(pod: Manifest) -> int:
    """Completion index: the node's rank. 0 for Jobs that aren't Indexed."""
    meta = pod["metadata"]
    text = (
        (meta.get("labels") or {}).get(INDEX_LABEL) or (meta.get("annotations") or {}).get(INDEX_LABEL) or "0"
    )
    return int(text)


def is_over(pod: Manifest) -> bool:
    """Whether it has said its last word: its main container has ended and is never started again."""
    return _has_stopped(pod) or bool(terminated(pod))


def is_held_open(pod: Manifest) -> bool:
    """Whether only containers of others still run in it. Native sidecars don't count: the kubelet ends them."""
    return bool(terminated(pod)) and not _has_stopped(pod) and bool(list_running_others(pod))


def is_running(pod: Manifest) -> bool:
    """Whether it runs and shall go on running."""
    return (
        _status(pod).get("phase") == "Running"
        and not is_over(pod)
        and "deletionTimestamp" not in pod["metadata"]
    )


def is_placed(pod: Manifest) -> bool:
    """Whether a node was found for it, and its volumes with that."""
    return bool((pod.get("spec") or {}).get("nodeName")) or is_over(pod)


def is_lost(pod: Manifest, now: datetime) -> bool:
    """Whether its node no longer answers."""
    # deletionTimestamp lies at the end of the grace period
    deleted = pod["metadata"].get("deletionTimestamp")
    return not is_over(pod) and deleted is not None and seconds_since(deleted, now) > LOST_AFTER


def seconds_until_lost(pod: Manifest, now: datetime) -> float | None:
    """When to look again at a pod that is being deleted."""
    deleted = pod["metadata"].get("deletionTimestamp")
    return None if deleted is None or is_over(pod) else max(1.0, LOST_AFTER + 1 - seconds_since(deleted, now))


def terminated(pod: Manifest) -> dict[str, Any]:
    """How the main container ended; empty while it hasn't."""
    return _main_state(pod).get("terminated") or {}


def start_of(pod: Manifest) -> datetime | None:
    """When the main container started."""
    state = _main_state(pod)
    started = (state.get("running") or state.get("terminated") or {}).get("startedAt")
    return parse_time(started) if started else None


def list_running_others(pod: Manifest) -> list[str]:
    """Names of the containers beside the main one that have not ended."""
    return [
        str(status.get("name")) for status in _others(pod) if "terminated" not in (status.get("state") or {})
    ]


def find_failed_other(pod: Manifest) -> tuple[str, int] | None:
    """Name and exit code of the first container beside the main one that has failed."""
    for status in _others(pod):
        code = ((status.get("state") or {}).get("terminated") or {}).get("exitCode")
        if code:
            return str(status.get("name")), int(code)
    return None


def main_container(pod: Manifest) -> str:
    """Name of the container that does the stage's work."""
    stage = (pod["metadata"].get("labels") or {}).get(names.STAGE_LABEL, "")
    return names.main_container(stage)


def find_problem(pods: Iterable[Manifest], now: datetime) -> Problem | None:
    """The most telling reason why one of the pods doesn't run."""
    found = [problem for pod in pods if (problem := _find_one(pod, now))]
    order = (
        "ImagePullFailed",
        "CreateContainerConfigError",
        "ClaimNotFound",
        "StorageTerminating",
        "NodeLost",
        "Unschedulable",
        "VolumePending",
    )
    return min(found, key=lambda p: order.index(p.reason) if p.reason in order else len(order), default=None)


def _find_one(pod: Manifest, now: datetime) -> Problem | None:
    name = pod["metadata"]["name"]
    if is_over(pod):
        return None
    if is_lost(pod, now):
        node = pod["spec"].get("nodeName", "unknown")
        return Problem(
            "NodeLost",
            f"Pod {name} does not stop; its node {node} may be lost: kubectl describe node {node}.",
            name,
        )
    status = _status(pod)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _explain_scheduler(name, str(condition.get("message", "")))
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), str(waiting.get("message", ""))
        if reason in _PULL:
            image = container.get("image", "")
            return Problem(
                "ImagePullFailed",
                f"Pod {name} can't pull image {image}. Check its name, and imagePullSecrets if its registry"
                f" asks for a password. {_first_line(message)}",
                name,
            )
        if reason in _CONFIG:
            return Problem(
                "CreateContainerConfigError",
                f"Pod {name} can't be started: {_first_line(message)}. Create what is missing; the pod then"
                " starts by itself.",
                name,
            )
    if (
        status.get("phase") == "Pending"
        and seconds_since(pod["metadata"].get("creationTimestamp"), now) > STUCK_AFTER
    ):
        if _is_pulling(status):
            return None
        return Problem(
            "VolumePending", f"Pod {name} waits for its volumes: kubectl describe pod {name}.", name
        )
    return None


def _explain_scheduler(pod: str, message: str) -> Problem | None:
    missing = _CLAIM.search(message)
    if missing:
        claim = missing[1]
        return Problem(
            "ClaimNotFound",
            f"PersistentVolumeClaim {claim!r} does not exist in this namespace. Create it, or correct the"
            " pvc:// URI; the pod then starts by itself.",
            pod,
        )
    going = _GOING.search(message)
    if going:
        return Problem(
            "StorageTerminating",
            f"Pod {pod} can't use PersistentVolumeClaim {going[1]}, which is being deleted: kubectl describe pvc"
            f" {going[1]}. Have the job use another.",
            pod,
        )
    if "unbound" in message or "volume node affinity" in message or "being bound" in message:
        return Problem(
            "VolumePending", f"Pod {pod} waits for a volume to be bound: {_first_line(message)}", pod
        )
    if not message:
        return None
    return Problem(
        "Unschedulable",
        f"No node can take pod {pod}: {_first_line(message)} Ask for less in resourcesPerNode, or add nodes.",
        pod,
    )


def _is_pulling(status: dict[str, Any]) -> bool:
    # PodReadyToStartContainers turns true once sandbox and volumes stand; a large image may be pulled for
    # minutes.
    return any(
        c.get("type") == "PodReadyToStartContainers" and c.get("status") == "True"
        for c in status.get("conditions") or []
    )


def _main_state(pod: Manifest) -> dict[str, Any]:
    # The kubelet lists containers by name, not in the order of the spec.
    statuses = _status(pod).get("containerStatuses") or []
    name = main_container(pod)
    return next((status.get("state") or {} for status in statuses if status.get("name") == name), {})


def _others(pod: Manifest) -> list[dict[str, Any]]:
    statuses = _status(pod).get("containerStatuses") or []
    return [status for status in statuses if status.get("name") != main_container(pod)]


def _has_stopped(pod: Manifest) -> bool:
    return _status(pod).get("phase") in ("Succeeded", "Failed")


def _status(pod: Manifest) -> dict[str, Any]:
    return pod.get("status") or {}


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:400]
