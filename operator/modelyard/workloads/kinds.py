"""Kubernetes' own kinds that features make or look at."""

from __future__ import annotations

from modelyard.engine.kinds import Kind

SERVICE = Kind("Service", "", "v1", "services")
# One that shall outlive its owner has none.
CLAIM = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", detachable=True)
DEPLOYMENT = Kind("Deployment", "apps", "v1", "deployments")
SERVICE_ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
ROLE_BINDING = Kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings")
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
JOB = Kind("Job", "batch", "v1", "jobs")
# A deleted pod is gone within milliseconds of its last word: why it ended.
POD = Kind("Pod", "", "v1", "pods", remembered=True)
