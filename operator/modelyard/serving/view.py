"""What one pass works on: the deployment, what is seen of it, and the time."""

from __future__ import annotations

from dataclasses import dataclass

from modelyard.api.deploymentstatus import ModelDeploymentStatus
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.workloads import view


@dataclass(frozen=True, slots=True)
class View(view.View):
    """A parsed ModelDeployment. `status` is the one of the last pass."""

    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
