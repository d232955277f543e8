"""A server as a container, and which one serves a deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.api.profile import Profile
from modelyard.api.trainer import EnvVar
from modelyard.contract import codes
from modelyard.workloads.accelerators import count_accelerators

Engine = Literal["builtin", "vllm", "custom"]
Speaks = Literal["builtin", "vllm", "openai", "oip"]


@dataclass(frozen=True, slots=True)
class Container:
    """What differs between servers. Empty `command` and `args` leave the image's own; `env` can't be changed by users,
    `users_env` is theirs. `speaks`: whose paths it answers. `alive` is None where only its end tells that it is dead.
    One that `drains` goes on taking requests for a while when it is told to end.
    """

    image: str
    port: int
    ready: str
    speaks: Speaks
    alive: str | None = None
    drains: bool = False
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Mapping[str, Any] = field(default_factory=dict)
    users_env: Sequence[EnvVar] = ()


def choose(spec: ModelDeploymentSpec, profile: Profile, task: str | None) -> Engine:
    """The engine that the spec asks for; with `auto` vLLM for text generation on an accelerator, where there is one."""
    kind = spec.engine.type
    if kind != "auto":
        return kind
    resources = spec.server.resources or profile.server_resources
    fits = task == "text-generation" and spec.compression.method == "none"
    return "vllm" if fits and profile.vllm_image and count_accelerators(resources) else "builtin"


def describe_model(folder: str, name: str) -> dict[str, Any]:
    """What servers that are not ours are told of the model."""
    path = PurePosixPath(codes.STORAGE_PATH) / folder
    return {codes.ENV_MODEL_PATH: str(path), codes.ENV_MODEL_NAME: name}
