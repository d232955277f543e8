"""Kubernetes' own kinds that features make or look at."""

from __future__ import annotations

from modelyard.engine.kinds import Kind

SERVICE = Kind("Service", "", "v1", "services")
# One that shall outlive its owner has none.
CLAIM = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", detachable=True)
DEPLOYMENT = Kind("Deployment", "apps", "v1", "deployments")
# Between a Deployment and its pods. Nothing is read of it, so its changes wake nobody.
REPLICA_SET = Kind("ReplicaSet", "apps", "v1", "replicasets", digest=lambda obj: {})
SERVICE_ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
ROLE_BINDING = Kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings")
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
SCALED_OBJECT = Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects", optional=True)
JOB = Kind("Job", "batch", "v1", "jobs")
# A deleted pod is gone within milliseconds of its last word: why it ended.
POD = Kind("Pod", "", "v1", "pods", remembered=True)
