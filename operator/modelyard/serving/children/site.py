"""What all pods of one deployment have in common, and what each kind of them is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.api.profile import Profile
from modelyard.contract import codes
from modelyard.serving import names
from modelyard.workloads.labels import STAGE_LABEL
from modelyard.workloads.storage import STORAGE_VOLUME, Place

CONFIG_VOLUME = "modelyard-config"
CONFIG_FOLDER = "/modelyard/config"
CONFIG_FILE = "config.json"
CONFIG_ANNOTATION = "modelyard.dev/config"  # of the pod: what the file shows
# Where a pod's processes leave what they have to tell.
RUNTIME_VOLUME: dict[str, Any] = {"name": "modelyard-runtime", "emptyDir": {}}
RUNTIME_MOUNT: dict[str, Any] = {"name": "modelyard-runtime", "mountPath": codes.RUNTIME_PATH}


@dataclass(frozen=True, slots=True)
class Site:
    """`labels` are the deployment's own; `place` is where its models are kept."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    profile: Profile
    place: Place


def build_template(
    site: Site, component: str, pod: dict[str, Any], config: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """A pod template: labelled, and with its config (JSON), which travels with the pod."""
    pod["volumes"].insert(
        0,
        {
            "name": CONFIG_VOLUME,
            "downwardAPI": {
                "items": [
                    {
                        "path": CONFIG_FILE,
                        "fieldRef": {"fieldPath": f"metadata.annotations['{CONFIG_ANNOTATION}']"},
                    }
                ]
            },
        },
    )
    container = pod["containers"][0]
    container["volumeMounts"].insert(0, {"name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": True})
    return {
        "metadata": {
            "labels": {
                **site.profile.pod_labels,
                **names.object_labels(site.name, component, site.labels),
                STAGE_LABEL: component,
                **labels,
            },
            "annotations": {
                **site.profile.pod_annotations,
                CONFIG_ANNOTATION: config,
                "kubectl.kubernetes.io/default-container": container["name"],
            },
        },
        "spec": pod,
    }


def mount_storage(site: Site, *, read_only: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The volume of the deployment's storage, and where a container has it."""
    mount: dict[str, Any] = {"name": STORAGE_VOLUME, "mountPath": codes.STORAGE_PATH}
    if site.place.folder:
        mount["subPath"] = site.place.folder
    if read_only:
        mount["readOnly"] = True
    return {"name": STORAGE_VOLUME, "persistentVolumeClaim": {"claimName": site.place.claim}}, mount
