"""What Prometheus is told of each ModelDeployment, out of its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.api.deploymentstatus import ModelDeploymentStatus
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.serving import Scaling, Traffic
from modelyard.engine.measure import Family, Measure, Sample
from modelyard.engine.plan import Manifest
from modelyard.workloads.labels import INHERITED_LABELS
from modelyard.workloads.view import read_status

_PREFIX = "modelyard_modeldeployment_"
_DEFAULT_TIMEOUT = Traffic().timeout_seconds
_DEFAULT_MOST = Scaling().max_replicas
_DEFAULT_REPLICAS = ModelDeploymentSpec.model_fields["replicas"].default


def _family(name: str, text: str, *labels: str) -> Family:
    return Family(_PREFIX + name, text, labels)


FAMILIES = (
    _family(
        "info", "1; who it belongs to and what it serves.", "project", "team", "profile", "task", "variant"
    ),
    _family("condition", "1 where the condition is True, 0 where it is False.", "type"),
    _family("replicas", "Servers of the revision that serves.", "state"),
    _family("desired_replicas", "Servers that the load asks for, within the bounds."),
    _family("max_replicas", "Most servers that there may be."),
    _family("scaling_reason", "1 for why there are as many servers, where the load decides it.", "reason"),
    _family("revisions", "Revisions that there are.", "state"),
    _family("failing_revisions", "Revisions of which servers don't become ready, by why.", "reason"),
    _family("timeout_seconds", "How long a request may take."),
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
        if status.scaling.reason is not None:
            yield _sample("scaling_reason", 1.0, status.scaling.reason)
    yield _sample("max_replicas", float(_read_most(spec)))
    timeout = (spec.get("traffic") or {}).get("timeoutSeconds", _DEFAULT_TIMEOUT)
    yield _sample("timeout_seconds", float(timeout))
    for state in _STATES:
        yield _sample("revisions", float(sum(r.state == state for r in status.revisions)), state)
    for reason, number in Counter(r.reason for r in status.revisions if r.reason).items():
        yield _sample("failing_revisions", float(number), reason)


def _read_most(spec: Mapping[str, Any]) -> int:
    """As many as the user allows, or wants."""
    scaling = spec.get("scaling") or {}
    if scaling.get("scaler") == "none":
        return int(spec.get("replicas", _DEFAULT_REPLICAS))
    return int(scaling.get("maxReplicas", _DEFAULT_MOST))


def _sample(name: str, value: float, *labels: str) -> Sample:
    return Sample(_PREFIX + name, value, labels)


MEASURE = Measure(FAMILIES, lambda deployment: True, read)
