"""The pods of a TrainingJob's stages: what they all mount, and what the contract tells them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from modelyard.api.profile import Profile
from modelyard.api.trainingjob import EnvVar, Resources
from modelyard.contract import codes
from modelyard.contract.layout import run_dir
from modelyard.workloads import stages
from modelyard.workloads.accelerators import count_accelerators
from modelyard.workloads.pods import template
from modelyard.workloads.storage import STORAGE_VOLUME, Place

RUN_VOLUME = "modelyard-run"
_RUNTIME_VOLUME = "modelyard-runtime"
# The run config travels with the pod: no object of its own that could be missing, or be another than the pod's.
_RUN_CONFIG = {
    "path": PurePosixPath(codes.RUN_CONFIG_PATH).name,
    "fieldRef": {"fieldPath": f"metadata.annotations['{codes.RUN_CONFIG_ANNOTATION}']"},
}


@dataclass(frozen=True, slots=True)
class Site:
    """What all pods of a job have in common."""

    namespace: str
    job: str
    uid: str
    profile: Profile
    place: Place
    run_config: str  # JSON


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
    run_path = str(PurePosixPath(codes.RUN_CONFIG_PATH).parent)
    container = {
        "name": stages.find(stage).container,
        "image": image,
        "imagePullPolicy": site.profile.image_pull_policy,
        "command": command,
        "env": template.build_env(
            _choose_defaults(resources, env), site.profile, user_env, _tell(site, stage) | env
        ),
        "resources": template.build_resources(resources),
        "securityContext": template.secure(),
        "terminationMessagePath": codes.TERMINATION_PATH,
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": RUN_VOLUME, "mountPath": run_path, "readOnly": True},
            _mount_storage(site.place),
            {"name": _RUNTIME_VOLUME, "mountPath": codes.RUNTIME_PATH},
            *template.mount_scratch(),
        ],
    }
    volumes = [
        {"name": RUN_VOLUME, "downwardAPI": {"items": [_RUN_CONFIG]}},
        {"name": STORAGE_VOLUME, "persistentVolumeClaim": {"claimName": site.place.claim}},
        {"name": _RUNTIME_VOLUME, "emptyDir": {}},
        *template.build_scratch(resources),
    ]
    return template.build(site.profile, container, volumes)


def set_grace(pod: dict[str, Any]) -> None:
    """Tells the agent the grace period that an overlay may have changed."""
    seconds = str(pod["terminationGracePeriodSeconds"])
    for variable in pod["containers"][0]["env"]:
        if variable["name"] == codes.ENV_GRACE_SECONDS:
            variable["value"] = seconds


def _mount_storage(place: Place) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": STORAGE_VOLUME, "mountPath": codes.STORAGE_PATH}
    return {**mount, "subPath": place.folder} if place.folder else mount


def _choose_defaults(resources: Resources, env: dict[str, Any]) -> dict[str, str]:
    if count_accelerators(resources):
        return {}
    threads = template.count_threads(resources, int(env.get(codes.ENV_NUM_PROC, 1)))
    return {"DS_ACCELERATOR": "cpu", **({"OMP_NUM_THREADS": str(threads)} if threads else {})}


def _tell(site: Site, stage: str) -> dict[str, Any]:
    """The contract's own variables, for all stages."""
    return {
        codes.ENV_STAGE: stage,
        codes.ENV_RUN_CONFIG: codes.RUN_CONFIG_PATH,
        codes.ENV_STORAGE: codes.STORAGE_PATH,
        codes.ENV_RUN_DIR: run_dir(site.namespace, site.job, site.uid),
        codes.ENV_RUNTIME_DIR: codes.RUNTIME_PATH,
        codes.ENV_AGENT_PORT: codes.AGENT_PORT,
        codes.ENV_GRACE_SECONDS: site.profile.termination_grace_period_seconds,
    }
