"""The two nodes as tests see them, and ways to take one away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from examples.demo import install
from tests.e2e.harness import Kube
from tests.e2e.jobs import SMALL_POD
from tests.e2e.setup import Cluster

HOST = "kubernetes.io/hostname"
UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}


class Nodes:
    """Names, pods and losses. `command` runs tests.cluster for this cluster."""

    def __init__(self, cluster: Cluster, kube: Kube, command: Callable[..., None]) -> None:
        self._system = cluster.kube(install.SYSTEM_NAMESPACE)
        self._kube = kube
        self._command = command

    def names(self) -> list[str]:
        """Of both."""
        return [node["metadata"]["name"] for node in self._kube.find("nodes")]

    def without_operator(self) -> str:
        """The node that can go without the operator."""
        pods = self._system.find("pods", f"app.kubernetes.io/instance={install.RELEASE}")
        (place,) = {p["spec"]["nodeName"] for p in pods if "deletionTimestamp" not in p["metadata"]}
        return next(name for name in self.names() if name != place)

    def drain(self, name: str) -> None:
        """As before maintenance; returns once its pods are gone."""
        self._kube.run(
            "drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s", timeout=190
        )

    def lose(self, name: str) -> None:
        """As by a power failure."""
        self._command("lose", name)

    def cut_off(self, name: str) -> None:
        """As by a broken network: its pods live on, and reach their volumes."""
        self._command("lose", name, "--cut-off")

    def cordon(self, name: str) -> None:
        """No new pod comes to it, until `uncordon`."""
        self._kube.run("cordon", name)

    def uncordon(self, name: str) -> None:
        """Pods may come to it again."""
        self._kube.run("uncordon", name)

    def placed(self, job: str, attempt: int) -> dict[str, str]:
        """Nodes of an attempt's pods that have not ended, by the pods' names."""
        pods = (
            p
            for p in self._kube.pods(job)
            if p["metadata"]["labels"]["modelyard.dev/attempt"] == str(attempt)
        )
        return {
            p["metadata"]["name"]: p["spec"].get("nodeName", "")
            for p in pods if p["status"].get("phase") in ("Pending", "Running")
        }  # fmt: skip


def apart(resources: dict[str, Any] | None = None, grace: int = 30, count: int = 2) -> dict[str, Any]:
    """A trainer of so many pods, one on each node that takes pods; `grace` in seconds."""
    spread = {
        "maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "DoNotSchedule", "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {"modelyard.dev/stage": "train"}},
        # Pods of an earlier attempt, which a lost node can't let go, don't count.
        "matchLabelKeys": ["modelyard.dev/attempt"],
    }  # fmt: skip
    pod = {
        "terminationGracePeriodSeconds": grace,
        "topologySpreadConstraints": [spread],
        "tolerations": [{**UNREACHABLE, "tolerationSeconds": 5}],
    }
    return {"numNodes": count, "resourcesPerNode": resources or SMALL_POD, "podTemplate": {"spec": pod}}
