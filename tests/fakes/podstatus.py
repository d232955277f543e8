"""What a kubelet says of a ModelDeployment's pods, for clusters without nodes: builds end well, all else runs."""

from __future__ import annotations

import json
from typing import Any

DIGEST = "sha256-" + "1" * 64


def describe_pod(stage: str, address: str | None = None, **variant: Any) -> dict[str, Any]:
    """The status of a pod of this stage, whose container has its name. address: the pod's; variant: what was measured
    of the only one that a build makes.
    """
    if stage == "build":
        return {"phase": "Succeeded", "containerStatuses": [_container(stage, _end(variant))]}
    ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "PodScheduled")]
    running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    status = {
        "phase": "Running",
        "conditions": ready,
        "containerStatuses": [_container(stage, running, ready=True)],
    }
    return status | ({"podIP": address, "podIPs": [{"ip": address}]} if address else {})


def _end(variant: dict[str, Any]) -> dict[str, Any]:
    measured = {
        "name": "none", "folder": "m", "bytes": 1, "passed": True, "concurrency": 4, "requestsPerSecond": 40,
        **variant,
    }  # fmt: skip
    result = {
        "stage": "build", "outcome": "succeeded", "digest": DIGEST, "task": "text-classification",
        "maxLength": 64, "chosen": "none", "variants": [measured],
    }  # fmt: skip
    end = {"exitCode": 0, "message": json.dumps(result), "finishedAt": "2026-01-01T00:00:00Z"}
    return {"terminated": end}


def _container(name: str, state: dict[str, Any], *, ready: bool = False) -> dict[str, Any]:
    return {"name": name, "image": "i", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
