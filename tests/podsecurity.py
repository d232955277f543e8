"""The restricted Pod Security Standard, as far as a pod can break it, and what we ask of our pods besides."""

from __future__ import annotations

from typing import Any

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def find_violations(spec: dict[str, Any]) -> list[str]:
    """One sentence per breach of the restricted level; empty for a pod that may run there."""
    found = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    for volume in spec.get("volumes", []):
        found += [f"volume {volume['name']} is a {kind}" for kind in set(volume) - {"name"} - ALLOWED_VOLUMES]
    pod = spec.get("securityContext", {})
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        found += [f"{container['name']}: {text}" for text in _container_violations(container, pod)]
    return found


def _container_violations(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    own = container.get("securityContext", {})
    found = []
    if own.get("privileged"):
        found.append("is privileged")
    if own.get("allowPrivilegeEscalation") is not False:
        found.append("may escalate privileges")
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        found.append("may run as root")
    if own.get("runAsUser", pod.get("runAsUser")) == 0:
        found.append("runs as user 0")
    if own.get("seccompProfile", pod.get("seccompProfile", {})).get("type") not in (
        "RuntimeDefault",
        "Localhost",
    ):
        found.append("has no seccomp profile")
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        found.append("keeps capabilities")
    if any("hostPort" in port for port in container.get("ports", [])):
        found.append("uses a port of the node")
    return found


def assert_restricted(pod: dict[str, Any]) -> None:
    """Fails with the rule that the spec of a job's pod breaks: the standard's, or one of ours."""
    assert find_violations(pod) == []
    for field in (
        "hostUsers",
        "shareProcessNamespace",
        "ephemeralContainers",
        "serviceAccountName",
        "serviceAccount",
    ):
        assert field not in pod, f"{field} is set"
    assert pod["automountServiceAccountToken"] is False, "a service account's token is mounted"
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert not {"sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile"} & set(context)
    assert all(len(set(volume) - {"name"}) == 1 for volume in pod["volumes"]), "a volume of two kinds"
    names = [volume["name"] for volume in pod["volumes"]]
    assert len(names) == len(set(names)), "two volumes of one name"
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert len(claims) == len(set(claims)), "a claim has two volumes, which the kubelet never mounts"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        _assert_container(container, names)


def _assert_container(container: dict[str, Any], volumes: list[str]) -> None:
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert "procMount" not in context
    assert "runAsUser" not in context or context["runAsUser"] > 0
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert len(paths) == len(set(paths)), "two mounts at one path"
    assert all(mount["name"] in volumes for mount in container["volumeMounts"])
    variables = [variable["name"] for variable in container.get("env", [])]
    assert len(variables) == len(set(variables)), "a variable is set twice, which server-side apply refuses"
