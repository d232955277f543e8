"""What Prometheus is told of each ModelDeployment, out of its status."""

from __future__ import annotations

from collections.abc import Iterator

from modelyard.api.deploymentstatus import ModelDeploymentStatus
from modelyard.engine.measure import Family, Measure, Sample
from modelyard.engine.plan import Manifest
from modelyard.workloads.labels import INHERITED_LABELS
from modelyard.workloads.view import read_status

_PREFIX = "modelyard_modeldeployment_"


def _family(name: str, text: str, *labels: str) -> Family:
    return Family(_PREFIX + name, text, labels)


FAMILIES = (
    _family(
        "info", "1; who it belongs to and what it serves.", "project", "team", "profile", "task", "variant"
    ),
    _family("condition", "1 where the condition is True, 0 where it is False.", "type"),
    _family("replicas", "Servers of the revision that serves.", "state"),
    _family("desired_replicas", "Servers that the load asks for."),
    _family("revisions", "Revisions that there are.", "state"),
)
_STATES = ("Starting", "Serving", "Draining", "Failed")


def read(deployment: Manifest) -> Iterator[Sample]:
    """Its samples."""
    status = read_status(ModelDeploymentStatus, deployment.get("status") or {})
    spec, labels = deployment.get("spec") or {}, deployment["metadata"].get("labels") or {}
    owners = tuple(str(labels.get(label, "")) for label in INHERITED_LABELS)
    task = (status.model.task if status.model else None) or ""
    variant = status.compression.chosen if status.compression else ""
    yield _sample("info", 1.0, *owners, str(spec.get("profile", "default")), task, variant)
    for condition in status.conditions:
        if condition.status != "Unknown":
            yield _sample("condition", float(condition.status == "True"), condition.type)
    yield _sample("replicas", float(status.replicas), "desired")
    yield _sample("replicas", float(status.ready_replicas), "ready")
    if status.scaling is not None:
        yield _sample("desired_replicas", float(status.scaling.desired))
    for state in _STATES:
        yield _sample("revisions", float(sum(r.state == state for r in status.revisions)), state)


def _sample(name: str, value: float, *labels: str) -> Sample:
    return Sample(_PREFIX + name, value, labels)


MEASURE = Measure(FAMILIES, lambda deployment: True, read)
