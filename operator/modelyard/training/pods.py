"""The pods: restricted by Pod Security's strictest profile, whatever the user's overlay says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from modelyard.api.profile import Profile
from modelyard.api.trainingjob import EnvVar, Resources
from modelyard.api.values import parse_quantity
from modelyard.contract import codes
from modelyard.contract.layout import run_dir
from modelyard.training import batch, names
from modelyard.training.storage import Place

USER_ID = 10001
HOME = "/modelyard/home"
SHM_LIMIT = 64 * 2**30
# A claim may be mounted in several places, but only by one volume: the kubelet waits for ever for a second
# one.
STORAGE_VOLUME = "modelyard-storage"
RUN_VOLUME = "modelyard-run"


@dataclass(frozen=True, slots=True)
class Site:
    """What all pods of a job have in common."""

    namespace: str
    job: str
    uid: str
    profile: Profile
    place: Place
    run_config: str


def build_pod(
    site: Site,
    stage: str,
    image: str,
    command: list[str],
    resources: Resources,
    env: dict[str, Any],
    user_env: list[EnvVar],
) -> dict[str, Any]:
    """A pod template's spec with one container, named after its stage."""  # fmt: skip
    profile = site.profile
    grace = profile.termination_grace_period_seconds
    container = {
        "name": names.main_container(stage),
        "image": image,
        "imagePullPolicy": profile.image_pull_policy,
        "command": command,
        "env": _build_env(site, stage, resources, env, user_env),
        "resources": _build_resources(resources),
        "securityContext": container_security(),
        "terminationMessagePath": codes.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {
                "name": RUN_VOLUME,
                "mountPath": str(PurePosixPath(codes.RUN_CONFIG_PATH).parent),
                "readOnly": True,
            },
            _storage_mount(site.place),
            {"name": "modelyard-runtime", "mountPath": codes.RUNTIME_PATH},
            {"name": "modelyard-home", "mountPath": HOME},
            {"name": "modelyard-tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "modelyard-shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": RUN_VOLUME, "configMap": {"name": site.run_config}},
            {"name": STORAGE_VOLUME, "persistentVolumeClaim": {"claimName": site.place.claim}},
            {"name": "modelyard-runtime", "emptyDir": {}},
            {"name": "modelyard-home", "emptyDir": {}},
            {"name": "modelyard-tmp", "emptyDir": {}},
            {
                "name": "modelyard-shm",
                "emptyDir": {"medium": "Memory", "sizeLimit": str(_shm_size(resources))},
            },
        ],
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


def set_grace(pod: dict[str, Any]) -> None:
    """Tells the agent the grace period that an overlay may have changed."""
    seconds = str(pod["terminationGracePeriodSeconds"])
    for variable in pod["containers"][0]["env"]:
        if variable["name"] == codes.ENV_GRACE_SECONDS:
            variable["value"] = seconds


def container_security() -> dict[str, Any]:
    """Security context of every container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def _storage_mount(place: Place) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": STORAGE_VOLUME, "mountPath": codes.STORAGE_PATH}
    return {**mount, "subPath": place.folder} if place.folder else mount


def _build_resources(resources: Resources) -> dict[str, Any]:
    limits = {key: str(value) for key, value in resources.limits.items()}
    requests = {**limits, **{key: str(value) for key, value in resources.requests.items()}}
    return {key: value for key, value in (("limits", limits), ("requests", requests)) if value}


def _shm_size(resources: Resources) -> int:
    memory = resources.limits.get("memory")
    return SHM_LIMIT if memory is None else min(int(parse_quantity(memory) / 2), SHM_LIMIT)


def _build_env(
    site: Site, stage: str, resources: Resources, env: dict[str, Any], user_env: list[EnvVar]
) -> list[dict[str, Any]]:
    """User's over profile's over ours; but the contract's own variables can't be changed."""
    variables: dict[str, dict[str, Any]] = {}
    defaults = {
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
    if batch.count_gpus(resources) == 0:
        defaults["DS_ACCELERATOR"] = "cpu"
        threads = _count_threads(resources, int(env.get(codes.ENV_NUM_PROC, 1)))
        if threads:
            defaults["OMP_NUM_THREADS"] = str(threads)
    for name, value in defaults.items():
        variables[name] = {"name": name, "value": value}
    for variable in [*site.profile.env, *user_env]:
        variables[variable.name] = _dump_variable(variable)
    contract = {
        codes.ENV_STAGE: stage,
        codes.ENV_RUN_CONFIG: codes.RUN_CONFIG_PATH,
        codes.ENV_STORAGE: codes.STORAGE_PATH,
        codes.ENV_RUN_DIR: run_dir(site.namespace, site.job, site.uid),
        codes.ENV_RUNTIME_DIR: codes.RUNTIME_PATH,
        codes.ENV_AGENT_PORT: codes.AGENT_PORT,
        codes.ENV_GRACE_SECONDS: site.profile.termination_grace_period_seconds,
        **env,
    }
    for name, value in contract.items():
        variables[name] = {"name": name, "value": str(value)}
    return list(variables.values())


def _dump_variable(variable: EnvVar) -> dict[str, Any]:
    if variable.secret_key_ref is not None:
        return {"name": variable.name, "valueFrom": {"secretKeyRef": variable.secret_key_ref.dump()}}
    return {"name": variable.name, "value": variable.value or ""}


def _count_threads(resources: Resources, processes: int) -> int | None:
    cpu = resources.limits.get("cpu")
    return None if cpu is None else max(1, int(parse_quantity(cpu)) // processes)
