"""Pod Security's `restricted` profile, as the admission controller checks it, and what we ask of our pods
besides.
"""

from __future__ import annotations

from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def assert_restricted(pod: dict[str, Any]) -> None:
    """Fails with the rule that a pod's spec breaks."""
    for field in (
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "hostUsers",
        "shareProcessNamespace",
        "ephemeralContainers",
    ):
        assert field not in pod, f"{field} is set"
    assert pod["automountServiceAccountToken"] is False, "a service account's token is mounted"
    assert "serviceAccountName" not in pod, "the pod takes a service account of the user's choice"
    assert "serviceAccount" not in pod
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"]["type"] == "RuntimeDefault"
    assert not {"sysctls", "seLinuxOptions", "windowsOptions", "appArmorProfile"} & set(context)
    for volume in pod["volumes"]:
        kinds = set(volume) - {"name"}
        assert len(kinds) == 1, f"volume {volume['name']} has {kinds}"
        assert kinds <= _VOLUMES, f"volume {volume['name']} is a {kinds}"
    names = [volume["name"] for volume in pod["volumes"]]
    assert len(names) == len(set(names)), "two volumes of one name"
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
    assert len(claims) == len(set(claims)), "a claim has two volumes, which the kubelet never mounts"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        _assert_container(container, names)


def _assert_container(container: dict[str, Any], volumes: list[str]) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True
    assert context.get("runAsNonRoot", True) is True
    assert not context.get("privileged")
    assert "procMount" not in context
    assert "runAsUser" not in context or context["runAsUser"] > 0
    assert not any("hostPort" in port for port in container.get("ports", []))
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert len(paths) == len(set(paths)), "two mounts at one path"
    assert all(mount["name"] in volumes for mount in container["volumeMounts"])
    variables = [variable["name"] for variable in container.get("env", [])]
    assert len(variables) == len(set(variables)), "a variable is set twice, which server-side apply refuses"
