"""Autoscalers of others that set a revision's size: a HorizontalPodAutoscaler, or KEDA's ScaledObject."""

from __future__ import annotations

from typing import Any

from modelyard.api.serving import Scaling
from modelyard.engine.plan import Child
from modelyard.serving import names
from modelyard.serving.children import servers
from modelyard.serving.children.site import Site
from modelyard.workloads import stages

COMPONENT = "scaler"
_LONGEST_WINDOW = 3600  # seconds; a HorizontalPodAutoscaler takes no more
# Seconds between two looks of KEDA's: as often as Prometheus knows anything new.
_POLL = 15


def build_autoscaler(site: Site, scaling: Scaling, revision: str) -> Child:
    """By the processors' load of that revision's servers.

    Not by their pods': one container without a request, as others put into pods, and the autoscaler knows no number.
    """
    target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_utilization}
    cpu = {"name": "cpu", "container": stages.find(servers.COMPONENT).container, "target": target}
    window = min(scaling.scale_down_delay_seconds, _LONGEST_WINDOW)
    spec = {
        "scaleTargetRef": _target(site, revision),
        "minReplicas": scaling.min_replicas,
        "maxReplicas": scaling.max_replicas,
        "metrics": [{"type": "ContainerResource", "containerResource": cpu}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": window}},
    }
    return _make(site, "autoscaling/v2", "HorizontalPodAutoscaler", spec)


def build_scaled_object(site: Site, scaling: Scaling, revision: str, target: float, least: int) -> Child:
    """By the requests that wait and run, as the profile's Prometheus has them from all gateways: `target` a server.

    least: servers that there are whatever is asked; 0: none while nothing is.
    """
    trigger = {
        "type": "prometheus",
        "metadata": {
            "serverAddress": site.profile.prometheus,
            "query": _write_query(site),
            "threshold": f"{target:g}",
            "activationThreshold": "0",
            # The series are there also at zero: when they aren't, Prometheus is ill, and nobody knows the load.
            "ignoreNullValues": "false",
        },
    }
    window = {"stabilizationWindowSeconds": min(scaling.scale_down_delay_seconds, _LONGEST_WINDOW)}
    spec = {
        "scaleTargetRef": _target(site, revision),
        "minReplicaCount": least,
        "maxReplicaCount": scaling.max_replicas,
        "pollingInterval": _POLL,
        "cooldownPeriod": scaling.idle_seconds,
        "triggers": [trigger],
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": window}}},
    }
    return _make(site, "keda.sh/v1alpha1", "ScaledObject", spec)


def _write_query(site: Site) -> str:
    """A request of some milliseconds is seldom seen running; the seconds that were spent on those that ended are exact.

    Those that take minutes are only seen running.
    """
    labels = f'namespace="{site.namespace}",modeldeployment="{site.name}"'
    running = f"sum(modelyard_gateway_running_requests{{{labels}}})"
    spent = f'sum(rate(modelyard_gateway_request_duration_seconds_sum{{{labels},revision!=""}}[2m]))'
    queued = f"sum(modelyard_gateway_queued_requests{{{labels}}})"
    return f"{queued} + (({spent} > {running}) or {running})"


def _target(site: Site, revision: str) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": names.revision(site.name, revision)}


def _make(site: Site, version: str, kind: str, spec: dict[str, Any]) -> Child:
    metadata = {"name": site.name, "labels": names.object_labels(site.name, COMPONENT, site.labels)}
    return Child({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
