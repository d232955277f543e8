"""Names and labels of a ModelDeployment's children.

Deterministic, so that a restart of the operator doubles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelyard.workloads import labels

DEPLOYMENT_LABEL = "modelyard.dev/modeldeployment"
REVISION_LABEL = "modelyard.dev/revision"
# On a revision's Service, from where Kubernetes copies it to the EndpointSlices that gateways watch.
WEIGHT_LABEL = "modelyard.dev/weight"
# There, too: requests in flight that one server takes; more wait at the gateway. Absent: no limit.
CONCURRENCY_LABEL = "modelyard.dev/concurrency"
# There, too: what the model does, for the gateway's page.
TASK_LABEL = "modelyard.dev/task"
# There, too: what its servers speak (engines.engine.Speaks), by which gateways know what they needn't be asked.
SPEAKS_LABEL = "modelyard.dev/speaks"
BUILD_LABEL = "modelyard.dev/build"
# Of a build's Job: digest of the pod template that it was made with.
TEMPLATE_ANNOTATION = "modelyard.dev/template"
# Of a revision's Deployment: what it serves.
DIGEST_ANNOTATION = "modelyard.dev/model-digest"
VARIANT_ANNOTATION = "modelyard.dev/variant"
COMPONENT_LABEL = "app.kubernetes.io/component"  # build, server or gateway


def service(deployment: str) -> str:
    """The Service that callers use, in front of the gateways."""
    return deployment


def gateway(deployment: str) -> str:
    """Deployment of the gateways, and what gives them their rights."""
    return f"{deployment}-gateway"


def revision(deployment: str, revision_id: str) -> str:
    """Deployment and headless Service of one revision's servers."""
    return f"{deployment}-{revision_id}"


def build_job(deployment: str, build_id: str, attempt: int) -> str:
    """Job of one try at a build."""
    return f"{deployment}-build-{build_id[:8]}-{attempt}"


def storage_claim(deployment: str) -> str:
    """The deployment's own claim. A TrainingJob of the same name has another."""
    return f"{deployment}-models"


def object_labels(deployment: str, component: str, own: Mapping[str, str]) -> dict[str, str]:
    """Labels of every child of a deployment, whose own labels are `own`."""
    return {**labels.build(DEPLOYMENT_LABEL, deployment, own), COMPONENT_LABEL: component}
