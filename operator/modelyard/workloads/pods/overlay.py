"""podTemplate: an allow-list, laid over the pod. Whatever isn't on the list is refused."""

from __future__ import annotations

from typing import Any

from modelyard.engine.plan import Manifest
from modelyard.workloads.problem import Refused

RESERVED_PREFIXES = (
    "modelyard.dev/",
    "app.kubernetes.io/",
    "batch.kubernetes.io/",
    "kueue.x-k8s.io/",
    "pod-security.kubernetes.io/",
)
RESERVED_KEYS = ("job-name", "controller-uid")
VOLUME_KINDS = ("configMap", "secret", "emptyDir", "persistentVolumeClaim")
# Ours, the system's, and where a file would change which program runs.
RESERVED_PATHS = (
    "/modelyard", "/opt", "/dev", "/proc", "/sys", "/etc", "/tmp", "/usr", "/bin", "/sbin", "/lib",  # noqa: S108
    "/lib64", "/var/run", "/run",
)  # fmt: skip
_KINDS: dict[str, type] = {
    "nodeSelector": dict, "tolerations": list, "affinity": dict, "topologySpreadConstraints": list,
    "priorityClassName": str, "schedulerName": str, "runtimeClassName": str, "imagePullSecrets": list,
    "terminationGracePeriodSeconds": int, "volumes": list, "containers": list,
}  # fmt: skip


def check(template: dict[str, Any], where: str, container: str) -> None:
    """Raises Refused (UnsafePodTemplate) naming the field, below `where`, and what is allowed.

    `container` is the name of the one that does the work.
    """
    _only(template, ("metadata", "spec"), where)
    metadata = _typed(template.get("metadata", {}), dict, f"{where}.metadata")
    _only(metadata, ("labels", "annotations"), f"{where}.metadata")
    for field, entries in metadata.items():
        for key, value in _typed(entries, dict, f"{where}.metadata.{field}").items():
            _typed(value, str, f"{where}.metadata.{field}.{key}")
            if str(key).startswith(RESERVED_PREFIXES) or key in RESERVED_KEYS:
                _refuse(f"{where}.metadata.{field}: {key} is reserved; choose another prefix")
    spec = _typed(template.get("spec", {}), dict, f"{where}.spec")
    _only(spec, tuple(_KINDS), f"{where}.spec")
    for field, value in spec.items():
        _typed(value, _KINDS[field], f"{where}.spec.{field}")
    grace = spec.get("terminationGracePeriodSeconds", 1)
    if isinstance(grace, bool) or not 1 <= grace <= 3600:
        _refuse(f"{where}.spec.terminationGracePeriodSeconds must lie between 1 and 3600")
    if str(spec.get("priorityClassName", "")).startswith("system-"):
        _refuse(f"{where}.spec.priorityClassName: system- classes belong to the cluster")
    names = [_check_volume(v, f"{where}.spec.volumes[{i}]") for i, v in enumerate(spec.get("volumes", []))]
    if len(set(names)) < len(names):
        _refuse(f"{where}.spec.volumes: two volumes have the same name")
    _check_containers(spec.get("containers", []), names, f"{where}.spec.containers", container)


def apply(template: dict[str, Any], pod: Manifest, where: str, container: str) -> None:
    """Checks an overlay, and lays it over a pod template (metadata and spec), in place. Raises Refused."""
    check(template, where, container)
    for field, entries in template.get("metadata", {}).items():
        merged = {**entries, **pod["metadata"].get(field, {})}
        pod["metadata"][field] = merged
    spec = dict(template.get("spec", {}))
    containers = spec.pop("containers", [])
    target = pod["spec"]
    for field in ("volumes", "tolerations", "imagePullSecrets"):
        target[field] = [*target.get(field, []), *spec.pop(field, [])]
        if not target[field]:
            del target[field]
    if "nodeSelector" in spec:
        target["nodeSelector"] = {**target.get("nodeSelector", {}), **spec.pop("nodeSelector")}
    target.update(spec)
    mounts = containers[0].get("volumeMounts", []) if containers else []
    target["containers"][0]["volumeMounts"] += mounts


def _check_volume(volume: Any, where: str) -> str:
    _typed(volume, dict, where)
    _only(volume, ("name", *VOLUME_KINDS), where)
    name = _typed(volume.get("name"), str, f"{where}.name")
    sources = [kind for kind in VOLUME_KINDS if kind in volume]
    if len(sources) != 1:
        _refuse(f"{where} needs exactly one of {', '.join(VOLUME_KINDS)}")
    _typed(volume[sources[0]], dict, f"{where}.{sources[0]}")
    if name.startswith("modelyard-"):
        _refuse(f"{where}.name: names that begin with modelyard- are reserved")
    return str(name)


def _check_containers(containers: list[Any], volumes: list[str], where: str, name: str) -> None:
    if len(containers) > 1:
        _refuse(f"{where}: only container {name} can be changed")
    for container in containers:
        _typed(container, dict, f"{where}[0]")
        _only(container, ("name", "volumeMounts"), f"{where}[0]")
        if container.get("name", name) != name:
            _refuse(f"{where}[0].name must be {name}")
        for i, mount in enumerate(
            _typed(container.get("volumeMounts", []), list, f"{where}[0].volumeMounts")
        ):
            _check_mount(mount, volumes, f"{where}[0].volumeMounts[{i}]")


def _check_mount(mount: Any, volumes: list[str], where: str) -> None:
    _typed(mount, dict, where)
    _only(mount, ("name", "mountPath", "subPath", "readOnly"), where)
    if mount.get("name") not in volumes:
        _refuse(f"{where}.name must be a volume of the overlay")
    path = _typed(mount.get("mountPath"), str, f"{where}.mountPath")
    pieces = path.split("/")
    clean = "/" + "/".join(piece for piece in pieces if piece)
    reserved = any(clean == r or clean.startswith(r + "/") for r in RESERVED_PATHS)
    if not path.startswith("/") or ".." in pieces or "." in pieces or clean == "/" or reserved or ":" in path:
        _refuse(f"{where}.mountPath {path!r} is reserved; mount below /data or another folder of your own")
    if ".." in str(mount.get("subPath", "")).split("/"):
        _refuse(f"{where}.subPath must not contain '..'")


def _only(value: dict[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in value:
        if key not in allowed:
            _refuse(f"{where}.{key} can't be set; allowed are {', '.join(allowed)}")


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        _refuse(f"{where} must be a {kind.__name__}")
    return value


def _refuse(message: str) -> None:
    raise Refused("UnsafePodTemplate", message + ".")
