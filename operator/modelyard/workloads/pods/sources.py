"""Claims and ConfigMaps that sources lie in, as a pod sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelyard.api.values import parse_uri
from modelyard.contract import codes
from modelyard.workloads.storage import STORAGE_VOLUME


def mount(pod: dict[str, Any], uris: Iterable[str], storage_claim: str) -> None:
    """Mounts each of them once, read-only, into the pod's first container. The storage's claim has its volume."""
    volumes = {("pvc", storage_claim): STORAGE_VOLUME}
    mounted = set()
    for uri in uris:
        location = parse_uri(uri, ("pvc", "https", "configmap", "hf"))
        key = (location.scheme, location.name)
        if location.scheme not in ("pvc", "configmap") or key in mounted:
            continue
        mounted.add(key)
        if key not in volumes:
            volumes[key] = f"modelyard-source-{len(mounted)}"
            pod["volumes"].append({"name": volumes[key], **_build_volume(*key)})
        path = f"{codes.SOURCES_PATH}/{location.scheme}/{location.name}"
        pod["containers"][0]["volumeMounts"].append(
            {"name": volumes[key], "mountPath": path, "readOnly": True}
        )


def _build_volume(scheme: str, name: str) -> dict[str, Any]:
    if scheme == "pvc":
        return {"persistentVolumeClaim": {"claimName": name}}
    # A missing ConfigMap would keep the pod waiting without a word; this way preparation itself says what is
    # missing.
    return {"configMap": {"name": name, "optional": True}}
