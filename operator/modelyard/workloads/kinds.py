"""Kubernetes' own kinds that features make or look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelyard.engine.kinds import Kind


def _leave_out(*fields: str, condition: str | None = None) -> Callable[[Mapping[str, Any]], Any]:
    """Of a status, all but these fields and this condition."""

    def read(status: Mapping[str, Any]) -> Any:
        conditions = [c for c in status.get("conditions") or () if c.get("type") != condition]
        return {k: v for k, v in status.items() if k not in (*fields, "conditions")}, conditions

    return read


SERVICE = Kind("Service", "", "v1", "services")
# One that shall outlive its owner has none.
CLAIM = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", detachable=True)
# Its controller counts its steps.
DEPLOYMENT = Kind(
    "Deployment", "apps", "v1", "deployments",
    news=_leave_out("availableReplicas", "unavailableReplicas", "terminatingReplicas", condition="Progressing"),
)  # fmt: skip
# Between a Deployment and its pods. Nothing is read of it, so its changes wake nobody.
REPLICA_SET = Kind("ReplicaSet", "apps", "v1", "replicasets", digest=lambda obj: {})
SERVICE_ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
ROLE_BINDING = Kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings")
# It counts pods, which are seen anyway.
DISRUPTION_BUDGET = Kind(
    "PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", news=lambda status: None
)
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
SCALED_OBJECT = Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects", optional=True)
JOB = Kind("Job", "batch", "v1", "jobs", news=_leave_out("ready", "uncountedTerminatedPods"))
# A deleted pod is gone within milliseconds of its last word: why it ended.
POD = Kind("Pod", "", "v1", "pods", remembered=True)
