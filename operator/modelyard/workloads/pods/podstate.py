"""What a pod's status says of it and of its containers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from modelyard.engine.plan import Manifest, Seen
from modelyard.workloads import stages
from modelyard.workloads.labels import STAGE_LABEL
from modelyard.workloads.pods import runtime
from modelyard.workloads.times import parse_time, seconds_since

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
# A pod that is being deleted and still here so long after its grace period has lost its node.
LOST_AFTER = 30.0


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
        status_of(pod).get("phase") == "Running"
        and not is_over(pod)
        and "deletionTimestamp" not in pod["metadata"]
    )


def is_leaving(pod: Manifest) -> bool:
    """Whether it has been told to end."""
    return "deletionTimestamp" in pod["metadata"]


def is_placed(pod: Manifest) -> bool:
    """Whether a node was found for it, and its volumes with that."""
    return bool((pod.get("spec") or {}).get("nodeName")) or is_over(pod)


def is_awaited(pod: Manifest) -> bool:
    """Whether it shall take requests, and doesn't. An evicted pod lies around long after another has its place."""
    return not (is_ready(pod) or is_leaving(pod) or _has_stopped(pod))


def is_lost(pod: Manifest, now: datetime) -> bool:
    """Whether its node no longer answers."""
    # deletionTimestamp lies at the end of the grace period
    deleted = pod["metadata"].get("deletionTimestamp")
    return not is_over(pod) and deleted is not None and seconds_since(deleted, now) > LOST_AFTER


def is_driven_off(pod: Manifest) -> bool:
    """Whether it is being deleted because of its node's taints: one that doesn't answer gets them too."""
    return "deletionTimestamp" in pod["metadata"] and any(
        c.get("type") == "DisruptionTarget" and c.get("reason") == "DeletionByTaintManager"
        for c in status_of(pod).get("conditions") or []
    )


def seconds_until_lost(pod: Manifest, now: datetime) -> float | None:
    """When to look again at a pod that is being deleted."""
    deleted = pod["metadata"].get("deletionTimestamp")
    return None if deleted is None or is_over(pod) else max(1.0, LOST_AFTER + 1 - seconds_since(deleted, now))


def terminated(pod: Manifest) -> dict[str, Any]:
    """How the main container ended; empty while it hasn't."""
    return _main_state(pod).get("terminated") or {}


def last_end(pod: Manifest) -> dict[str, Any]:
    """How the main container ended last, if it was started again since or waits for that; empty if it never did."""
    entry = _main_status(pod)
    states = (entry.get("state") or {}, entry.get("lastState") or {})
    return next((state["terminated"] for state in states if state.get("terminated")), {})


def is_ready(pod: Manifest) -> bool:
    """Whether it takes requests."""
    return any(
        c.get("type") == "Ready" and c.get("status") == "True" for c in status_of(pod).get("conditions") or []
    )


def start_of(pod: Manifest) -> datetime | None:
    """When the main container started."""
    state = _main_state(pod)
    started = (state.get("running") or state.get("terminated") or {}).get("startedAt")
    # Of a container that the runtime could not start it is 1970.
    return parse_time(started) if started and not started.startswith("1970-") else None


def ran_for(pod: Manifest) -> float | None:
    """Seconds that the main container ran; None where it didn't, or runs still."""
    start, end = start_of(pod), terminated(pod).get("finishedAt")
    return (parse_time(end) - start).total_seconds() if start and end else None


def list_running_others(pod: Manifest) -> list[str]:
    """Names of the containers beside the main one that have not ended."""
    return [
        str(status.get("name")) for status in _others(pod) if "terminated" not in (status.get("state") or {})
    ]


def find_failed_other(pod: Manifest) -> tuple[str, int, str] | None:
    """Name, exit code and reason of the first container beside the main one that has failed."""
    return _find_failed(_others(pod))


def find_unstarted(pod: Manifest) -> tuple[dict[str, Any], str, str]:
    """How a container of ours ended that the runtime could not start, its name and image; empty where none."""
    status = status_of(pod)
    for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        ended = (entry.get("state") or {}).get("terminated") or {}
        ours = entry.get("name") in (stages.AGENT_CONTAINER, main_container(pod))
        if ours and runtime.is_start_failure(ended):
            return ended, str(entry.get("name")), str(entry.get("image", ""))
    return {}, "", ""


def find_failed_init(pod: Manifest) -> tuple[str, int, str] | None:
    """Name, exit code and reason of the init container for which the pod's own was never started."""
    if terminated(pod):
        return None
    return _find_failed(status_of(pod).get("initContainerStatuses") or [])


def main_container(pod: Manifest) -> str:
    """Name of the container that does the stage's work."""
    return stages.find(stage_of(pod)).container


def image_of(pod: Manifest) -> str:
    """Image of that container, as its node has it; empty where that isn't told."""
    name = main_container(pod)
    found = (c for c in status_of(pod).get("containerStatuses") or [] if c.get("name") == name)
    return next((str(c.get("image", "")) for c in found), "")


def stage_of(pod: Manifest) -> str:
    """prepare, train or collect."""
    return str((pod["metadata"].get("labels") or {}).get(STAGE_LABEL, ""))


def is_being_set_up(pod: Manifest) -> bool:
    """Whether it has a node, but not yet its volumes and network."""
    status = status_of(pod)
    return (
        status.get("phase") == "Pending"
        and bool(pod["spec"].get("nodeName"))
        and "deletionTimestamp" not in pod["metadata"]
        and not has_sandbox(status)
    )


def has_sandbox(status: dict[str, Any]) -> bool:
    """Whether its network and volumes stand; then images are pulled and containers started."""
    # PodReadyToStartContainers turns true once sandbox and volumes stand.
    return any(
        c.get("type") == "PodReadyToStartContainers" and c.get("status") == "True"
        for c in status.get("conditions") or []
    )


def _main_state(pod: Manifest) -> dict[str, Any]:
    return _main_status(pod).get("state") or {}


def _main_status(pod: Manifest) -> dict[str, Any]:
    # The kubelet lists containers by name, not in the order of the spec.
    statuses = status_of(pod).get("containerStatuses") or []
    name = main_container(pod)
    return next((status for status in statuses if status.get("name") == name), {})


def _find_failed(statuses: list[dict[str, Any]]) -> tuple[str, int, str] | None:
    for status in statuses:
        ended = (status.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return str(status.get("name")), int(ended["exitCode"]), str(ended.get("reason") or "")
    return None


def _others(pod: Manifest) -> list[dict[str, Any]]:
    statuses = status_of(pod).get("containerStatuses") or []
    return [status for status in statuses if status.get("name") != main_container(pod)]


def _has_stopped(pod: Manifest) -> bool:
    return status_of(pod).get("phase") in ("Succeeded", "Failed")


def status_of(pod: Manifest) -> dict[str, Any]:
    """Its status; empty before anybody has looked at it."""
    return pod.get("status") or {}


def first_line(text: str) -> str:
    """Of a message that may be a whole log."""
    return text.strip().split("\n", 1)[0][:400]
