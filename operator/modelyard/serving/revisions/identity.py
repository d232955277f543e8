"""What makes two servers the same: the package, and the user's words on the pods."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from modelyard.api.deploymentstatus import CompressionStatus, ServedModelStatus
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.engine.compare import digest


def say(words: BaseModel) -> dict[str, Any]:
    """What was said by somebody: a release that adds a field, or has another default, makes no other words of it."""
    return words.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def find_id(spec: ModelDeploymentSpec, model: ServedModelStatus, compression: CompressionStatus) -> str:
    """The revision's id. Neither profile nor images are part of it: an edited profile restarts no server."""
    served = [model.digest, model.task, compression.folder, compression.chosen, compression.runtime]
    # Storage that the user has named is mounted by no earlier server; with the rest the folder tells it apart.
    storage = spec.storage.uri or ("claim" if spec.storage.claim is not None else None)
    return digest([served, say(spec.engine), say(spec.server), *([storage] if storage else [])])[:8]
