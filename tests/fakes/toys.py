"""Plans of a made-up kind, for tests of the engine."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from modelyard.engine.plan import Child, Event, Manifest, Plan, Seen


def config_map(name: str, **data: str) -> Manifest:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def claim(name: str) -> Manifest:
    """A claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def job(name: str, image: str = "i", suspend: bool = False) -> Manifest:
    """A Job."""
    template = {"spec": {"containers": [{"name": "main", "image": image}], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"suspend": suspend, "template": template},
    }


def plan_toy(resource: Manifest, seen: Seen, now: datetime) -> Plan:
    """A settings map, a claim that stays, then a Job.

    The status says which exist and whether something is refused.
    """
    spec: dict[str, Any] = resource["spec"]
    name = resource["metadata"]["name"]
    suspend = bool(spec.get("suspend"))
    children = [
        Child(config_map(f"{name}-settings", value=str(spec.get("value", "1")))),
        Child(claim(f"{name}-storage"), detached=True, immutable=True),
        Child(job(f"{name}-run", suspend=suspend), immutable=True, mutable={"spec.suspend": suspend}),
    ]
    if spec.get("done"):
        children = children[:2]
    status: dict[str, Any] = {
        "observedGeneration": resource["metadata"]["generation"],
        "children": sorted(c["metadata"]["name"] for c in seen.children),
        "refused": {child: r.reason for child, r in seen.rejections.items()},
        "step": seen.facts.get("agent", {}).get("step", 0),
    }
    before = (resource.get("status") or {}).get("children", [])
    events: tuple[Event, ...] = ()
    if f"{name}-run" in status["children"] and f"{name}-run" not in before:
        events = (Event("Normal", "Started", "The Job runs."),)
    return Plan(status=status, children=tuple(children), events=events, volatile=frozenset({"step"}))
