"""Plans of made-up kinds, for tests of the engine.

A Toy has children of all sorts, a Troop has Toys for children, a Guest refers to one, a Listener asks, and has a
Gadget where the cluster has such things.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from modelyard.engine.plan import Child, Event, Key, Manifest, Plan, Seen
from modelyard.engine.probe import Computation, Probe


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


def digest_toy(resource: Manifest) -> dict[str, Any]:
    """What a Troop knows of a Toy."""
    name = resource["metadata"]["name"]
    ran = f"{name}-run" in (resource.get("status") or {}).get("children", ())
    return {"ran": ran, "suspend": bool(resource["spec"].get("suspend"))}


def plan_troop(resource: Manifest, seen: Seen, now: datetime) -> Plan:
    """So many Toys, one after the other: the next is made once the Job of the last is there.

    Toys about which nothing is to be done are kept without a look at them.
    """
    spec: dict[str, Any] = resource["spec"]
    suspend = bool(spec.get("suspend"))
    children: list[Child] = []
    keep: set[str] = set()
    toys: dict[str, bool] = {}
    for index in range(int(spec.get("size", 1))):
        name = f"{resource['metadata']['name']}-{index}"
        digest = seen.digests.get(f"Toy/{name}")
        if digest is not None and digest["suspend"] == suspend:
            keep.add(f"Toy/{name}")
        else:
            manifest = {"apiVersion": "modelyard.dev/v1alpha1", "kind": "Toy", "metadata": {"name": name}}
            manifest["spec"] = {"value": str(index), "suspend": suspend}
            children.append(Child(manifest, immutable=True, mutable={"spec.suspend": suspend}))
        toys[name] = digest is not None and bool(digest["ran"])
        if not toys[name]:
            break
    status = {"observedGeneration": resource["metadata"]["generation"], "toys": toys}
    return Plan(status=status, children=tuple(children), keep=frozenset(keep))


def plan_guest(resource: Manifest, seen: Seen, now: datetime) -> Plan:
    """A ConfigMap with the value of the Toy that `spec.host` names, or of the one that another Guest is a guest of."""
    spec: dict[str, Any] = resource["spec"]
    namespace, name = resource["metadata"]["namespace"], resource["metadata"]["name"]
    references = {Key(spec.get("of", "Toy"), namespace, spec["host"])}
    (host,) = (seen.references.get(reference) for reference in references)
    if host is not None and host["kind"] == "Guest":
        references.add(Key("Toy", namespace, host["spec"]["host"]))
        host = seen.references.get(Key("Toy", namespace, host["spec"]["host"]))
    value = str(host["spec"].get("value", "1")) if host is not None else None
    status = {"observedGeneration": resource["metadata"]["generation"], "value": value or "nobody's"}
    children = (Child(config_map(f"{name}-guest", value=value)),) if value is not None else ()
    return Plan(status=status, children=children, references=frozenset(references))


def plan_listener(resource: Manifest, seen: Seen, now: datetime) -> Plan:
    """What a pod says, which may hold its answers back, and the sum of that and `spec.numbers`, computed elsewhere."""
    spec: dict[str, Any] = resource["spec"]
    namespace = resource["metadata"]["namespace"]
    probe = Probe("load", namespace, spec["pod"], "", spec["port"], "/v1/load", interval=0.2, wait=10.0)
    load = int(seen.facts.get("load", {}).get("load", 0))
    sum_up = Computation("tests.fakes.questions:add", {"numbers": [*spec["numbers"], load]})
    total = seen.facts.get(sum_up.name, {}).get("answer", {}).get("sum")
    gadget: Manifest = {"apiVersion": "modelyard.dev/v1alpha1", "kind": "Gadget", "spec": {"load": "any"}}
    gadget["metadata"] = {"name": resource["metadata"]["name"]}
    wanted = "Gadget" in seen.served or spec.get("insists")
    status: dict[str, Any] = {
        "observedGeneration": resource["metadata"]["generation"],
        "load": load,
        "gadgets": len(seen.of_kind("Gadget")),
        "refused": " ".join(f"{child}: {r.reason}" for child, r in seen.rejections.items()) or "nothing",
    }
    if total is not None:
        status["total"] = total
    return Plan(status=status, children=(Child(gadget),) if wanted else (), probes=(probe, sum_up))
