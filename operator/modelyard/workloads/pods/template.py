"""Pods: restricted by Pod Security's strictest profile, whatever the user's overlay says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modelyard.api.profile import Profile
from modelyard.api.trainingjob import EnvVar, Resources
from modelyard.api.values import parse_quantity

USER_ID = 10001
HOME = "/modelyard/home"
SHM_LIMIT = 64 * 2**30
# All that a program may write to beside its storage; the rest of its file system is read-only.
_SCRATCH = {"modelyard-home": HOME, "modelyard-tmp": "/tmp"}  # noqa: S108


def build(profile: Profile, container: dict[str, Any], volumes: list[dict[str, Any]]) -> dict[str, Any]:
    """A pod template's spec with one container and these volumes, as the profile places it."""
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": profile.termination_grace_period_seconds,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }  # fmt: skip
    if profile.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in profile.image_pull_secrets]
    if profile.node_selector:
        pod["nodeSelector"] = dict(profile.node_selector)
    if profile.tolerations:
        pod["tolerations"] = list(profile.tolerations)
    if profile.priority_class_name:
        pod["priorityClassName"] = profile.priority_class_name
    return pod


def secure() -> dict[str, Any]:
    """Security context of every container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def mount_scratch() -> list[dict[str, Any]]:
    """Where a container may write beside its storage, and its shared memory."""
    places = {**_SCRATCH, "modelyard-shm": "/dev/shm"}  # noqa: S108
    return [{"name": name, "mountPath": path} for name, path in places.items()]


def build_scratch(resources: Resources) -> list[dict[str, Any]]:
    """The volumes of `mount_scratch`. Shared memory counts as the container's: at most half of it."""
    memory = resources.limits.get("memory")
    size = SHM_LIMIT if memory is None else min(int(parse_quantity(memory) / 2), SHM_LIMIT)
    shared = {"name": "modelyard-shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}
    return [*({"name": name, "emptyDir": {}} for name in _SCRATCH), shared]


def build_resources(resources: Resources) -> dict[str, Any]:
    """What a container asks for: what it doesn't request by itself it requests by its limits."""
    limits = {key: str(value) for key, value in resources.limits.items()}
    requests = {**limits, **{key: str(value) for key, value in resources.requests.items()}}
    return {key: value for key, value in (("limits", limits), ("requests", requests)) if value}


def build_env(
    defaults: Mapping[str, str], profile: Profile, users: Iterable[EnvVar], fixed: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The user's over the profile's over ours; but what is fixed can't be changed."""
    variables: dict[str, dict[str, Any]] = {}
    home = {
        "HOME": HOME,
        "HF_HOME": f"{HOME}/huggingface",
        "XDG_CACHE_HOME": f"{HOME}/.cache",
        "TORCHINDUCTOR_CACHE_DIR": f"{HOME}/.cache/inductor",
        "TRITON_CACHE_DIR": f"{HOME}/.cache/triton",
        "USER": "modelyard",  # the uid is in no image's /etc/passwd
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in {**home, **defaults}.items():
        variables[name] = {"name": name, "value": value}
    for variable in [*profile.env, *users]:
        variables[variable.name] = _dump_variable(variable)
    for name, value in fixed.items():
        variables[name] = {"name": name, "value": str(value)}
    return list(variables.values())


def count_threads(resources: Resources, processes: int) -> int | None:
    """Threads that each of so many processes may run without taking the others' processors; None without a limit."""
    cpu = resources.limits.get("cpu")
    return None if cpu is None else max(1, int(parse_quantity(cpu)) // processes)


def _dump_variable(variable: EnvVar) -> dict[str, Any]:
    if variable.secret_key_ref is not None:
        return {"name": variable.name, "valueFrom": {"secretKeyRef": variable.secret_key_ref.dump()}}
    return {"name": variable.name, "value": variable.value or ""}
