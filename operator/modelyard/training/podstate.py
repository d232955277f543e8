"""Why pods don't run: read from the pods themselves, since events are lost and status isn't."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from modelyard.engine.plan import Manifest, Seen
from modelyard.training import names, runtime
from modelyard.training.problem import Problem
from modelyard.training.view import parse_time, seconds_since

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
# A pod that is being deleted and still here so long after its grace period has lost its node.
LOST_AFTER = 30.0
# Mounting and creating takes seconds; so long is no longer normal.
STUCK_AFTER = 60.0
# Reasons that say that something is missing, not what.
VAGUE = frozenset({"VolumePending", "PodSetupPending"})
_NO_NAME = ("InvalidImageName", "ErrInvalidImageName")
_PULL = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable")
_PULL += ("SignatureValidationFailed",)
_START = ("CreateContainerError", "RunContainerError", "PreStartHookError", "PostStartHookError")
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
    return _find_failed(_others(pod))


def find_unstarted(pod: Manifest) -> tuple[dict[str, Any], str, str]:
    """How a container of ours ended that the runtime could not start, its name and image; empty where none."""
    status = _status(pod)
    for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        ended = (entry.get("state") or {}).get("terminated") or {}
        ours = entry.get("name") in (names.AGENT_CONTAINER, main_container(pod))
        if ours and runtime.is_start_failure(ended):
            return ended, str(entry.get("name")), str(entry.get("image", ""))
    return {}, "", ""


def find_failed_init(pod: Manifest) -> tuple[str, int] | None:
    """Name and exit code of the init container for which the pod's own was never started."""
    if terminated(pod):
        return None
    return _find_failed(_status(pod).get("initContainerStatuses") or [])


def main_container(pod: Manifest) -> str:
    """Name of the container that does the stage's work."""
    stage = (pod["metadata"].get("labels") or {}).get(names.STAGE_LABEL, "")
    return names.main_container(stage)


def find_problem(pods: Iterable[Manifest], now: datetime) -> Problem | None:
    """The most telling reason why one of the pods doesn't run."""
    found = [problem for pod in pods if (problem := _find_one(pod, now))]
    order = (
        "InvalidImageName",
        "ContainerCannotRun",
        "ImagePullFailed",
        "CreateContainerConfigError",
        "ClaimNotFound",
        "NodeLost",
        "SchedulingGated",
        "Unschedulable",
        "InitContainerRuns",
        "VolumePending",
        "PodSetupPending",
    )
    rank = {reason: place for place, reason in enumerate(order)}
    return min(found, key=lambda p: (not p.fatal, rank.get(p.reason, len(order))), default=None)


def is_being_set_up(pod: Manifest) -> bool:
    """Whether it has a node, but not yet its volumes and network."""
    status = _status(pod)
    return (
        status.get("phase") == "Pending"
        and bool(pod["spec"].get("nodeName"))
        and "deletionTimestamp" not in pod["metadata"]
        and not _has_sandbox(status)
    )


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
            return _explain_scheduler(
                name, str(condition.get("reason", "")), str(condition.get("message", ""))
            )
    ours = (main_container(pod), names.AGENT_CONTAINER)
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
            f" {first_line(message)}. Correct it; with another image the job must be created anew.",
            pod,
            fatal=own,
        )
    if reason in _PULL and "no match for platform" in message:
        return Problem(
            "ImagePullFailed",
            f"Pod {pod} can't pull image {image}: it is not made for the processor architecture of the pod's"
            f" node. Build it for that one, or choose other nodes by nodeSelector. {first_line(message)}",
            pod,
        )
    if reason in _PULL:
        return Problem(
            "ImagePullFailed",
            f"Pod {pod} can't pull image {image}. Check its name, and imagePullSecrets if its registry"
            f" asks for a password. {first_line(message)}",
            pod,
        )
    if reason == "CreateContainerConfigError":
        return Problem(
            reason,
            f"Container {name} of pod {pod} can't be started: {first_line(message)}. Create what is missing;"
            " the pod then starts by itself.",
            pod,
        )
    if reason in _START:
        text = runtime.explain(pod, name, image, message)
        return Problem("ContainerCannotRun", text, pod, fatal=own and runtime.is_hopeless(message))
    return None


def _explain_delay(pod: Manifest) -> Problem | None:
    """Of a pod that has been pending for long, although nothing says that it can't start."""
    name, status = pod["metadata"]["name"], _status(pod)
    if not pod["spec"].get("nodeName"):
        return Problem(
            "Unschedulable",
            f"No scheduler has looked at pod {name}: check schedulerName in the podTemplate, and whether that"
            " scheduler runs.",
            name,
        )
    if not _has_sandbox(status):
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


def _explain_scheduler(pod: str, reason: str, message: str) -> Problem | None:
    if reason == "SchedulingGated":
        return Problem(
            "SchedulingGated",
            f"Pod {pod} is held by a scheduling gate, as queues and topology controllers set it; whoever set"
            f" it must take it away: kubectl get pod {pod} -o jsonpath={{.spec.schedulingGates}}.",
            pod,
        )
    missing = _CLAIM.search(message)
    if missing:
        claim = missing[1]
        return Problem(
            "ClaimNotFound",
            f"PersistentVolumeClaim {claim!r} does not exist in this namespace. Create it, or correct the"
            " pvc:// URI; the pod then starts by itself.",
            pod,
        )
    if "unbound" in message or "volume node affinity" in message or "being bound" in message:
        return Problem(
            "VolumePending", f"Pod {pod} waits for a volume to be bound: {first_line(message)}", pod
        )
    if not message:
        return None
    return Problem(
        "Unschedulable",
        f"No node can take pod {pod}: {first_line(message)} Ask for less in resourcesPerNode, or add nodes.",
        pod,
    )


def _has_sandbox(status: dict[str, Any]) -> bool:
    # PodReadyToStartContainers turns true once sandbox and volumes stand.
    return any(
        c.get("type") == "PodReadyToStartContainers" and c.get("status") == "True"
        for c in status.get("conditions") or []
    )


def _main_state(pod: Manifest) -> dict[str, Any]:
    # The kubelet lists containers by name, not in the order of the spec.
    statuses = _status(pod).get("containerStatuses") or []
    name = main_container(pod)
    return next((status.get("state") or {} for status in statuses if status.get("name") == name), {})


def _find_failed(statuses: list[dict[str, Any]]) -> tuple[str, int] | None:
    for status in statuses:
        code = ((status.get("state") or {}).get("terminated") or {}).get("exitCode")
        if code:
            return str(status.get("name")), int(code)
    return None


def _others(pod: Manifest) -> list[dict[str, Any]]:
    statuses = _status(pod).get("containerStatuses") or []
    return [status for status in statuses if status.get("name") != main_container(pod)]


def _has_stopped(pod: Manifest) -> bool:
    return _status(pod).get("phase") in ("Succeeded", "Failed")


def _status(pod: Manifest) -> dict[str, Any]:
    return pod.get("status") or {}


def first_line(text: str) -> str:
    """Of a message that may be a whole log."""
    return text.strip().split("\n", 1)[0][:400]
