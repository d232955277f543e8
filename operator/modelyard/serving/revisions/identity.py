"""What makes two servers the same: the package, and the user's words on the pods."""

from __future__ import annotations

from modelyard.api.deploymentstatus import CompressionStatus, ServedModelStatus
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.engine.compare import digest


def find_id(spec: ModelDeploymentSpec, model: ServedModelStatus, compression: CompressionStatus) -> str:
    """The revision's id. Neither profile nor images are part of it: an edited profile restarts no server."""
    served = [model.digest, model.task, compression.folder, compression.chosen, compression.runtime]
    return digest([served, spec.engine.dump(), spec.server.dump()])[:8]
