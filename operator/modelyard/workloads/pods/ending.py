"""How a pod ended: its program's own word, and whether it was the cluster that ended it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from modelyard.contract import reading
from modelyard.contract.base import ContractModel
from modelyard.engine.plan import Manifest
from modelyard.workloads.pods import podstate

M = TypeVar("M", bound=ContractModel)

# What `find_disruption` says where nothing of the cluster's ended the pod: its container failed, or never ran.
FAILED, NEVER_RAN = "TemporaryFailure", "PodFailed"
_OTHER_THAN_WORD = re.compile(r"[^A-Za-z0-9_]")
# Reasons of pods that ran and were ended from outside. A pod that was ended before it ran may have any reason:
# the kubelet's admission names the resource that it lacks (OutOfcpu, OutOfnvidia.com/gpu).
_DISRUPTED = frozenset({
    "Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting", "DeadlineExceeded",
})  # fmt: skip


def read_result(pod: Manifest, model: type[M]) -> M | None:
    """The result in the pod's termination message."""
    # A user's program may have written something of its own there.
    message = podstate.terminated(pod).get("message")
    return reading.read(model, message) if message else None


def has_failed(pod: Manifest) -> bool:
    """Whether its main container or the pod as a whole has failed."""
    return (pod.get("status") or {}).get("phase") == "Failed" or bool(
        podstate.terminated(pod).get("exitCode")
    )


def find_disruption(pod: Manifest) -> str:
    """One word for what ended it from outside; FAILED or NEVER_RAN where nothing did."""
    status: dict[str, Any] = pod.get("status") or {}
    end = podstate.terminated(pod)
    reason = str(status.get("reason") or "")
    if reason in _DISRUPTED or (reason and not end):
        # A job's own deadline has that name.
        return _OTHER_THAN_WORD.sub("", reason.replace("DeadlineExceeded", "PodDeadlineExceeded"))
    if end.get("reason") == "ContainerStatusUnknown":
        return "ContainerStatusUnknown"
    for condition in status.get("conditions") or []:
        if _is_disruption(condition):
            return str(condition.get("reason") or "Evicted")
    return FAILED if end else NEVER_RAN


def is_disrupted(pod: Manifest) -> bool:
    """Whether it was ended from outside."""
    return find_disruption(pod) not in (FAILED, NEVER_RAN)


def find_detail(pod: Manifest) -> str:
    """What the cluster said of its end."""
    status: dict[str, Any] = pod.get("status") or {}
    told = [status, *(c for c in status.get("conditions") or [] if _is_disruption(c))]
    return next((str(t["message"]).strip()[:400] for t in told if t.get("message")), "")


def _is_disruption(condition: dict[str, Any]) -> bool:
    return condition.get("type") == "DisruptionTarget" and condition.get("status") == "True"
