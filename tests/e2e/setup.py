"""Brings up what the end-to-end tests run on, with the demo's own steps. Each is a no-op when it is already true."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.demo import install
from examples.demo.inputs import load_inputs, prepare_inputs
from examples.demo.shell import Kubectl
from tests.e2e.harness import Kube

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "e2e"
# Work costs something; and a platform team's second profile, whose pods ask the test's own hub.
PRICES = {"currency": "EUR", "perHour": {"cpu": 0.03, "memory": 0.004}}
PROFILES = {
    "default": {"prices": PRICES},
    "hub": {"env": [{"name": "HF_ENDPOINT", "value": f"http://web.{NAMESPACE}:8080"}]},
}


@dataclass(frozen=True)
class Cluster:
    """The running cluster and what was loaded into it."""

    tools: Kubectl
    images: dict[str, str]

    def kube(self, namespace: str) -> Kube:
        """kubectl in one namespace."""
        return Kube(self.tools.kubectl, self.tools.kubeconfig, namespace)


def bring_up(name: str = "default") -> Cluster:
    """Cluster up, images built and loaded, chart installed, two profiles."""
    tools = install.start_cluster(name)
    images = install.load_images(name)
    install.install_chart(tools, images)
    set_profiles(tools, PROFILES)
    return Cluster(tools, images)


def set_profiles(tools: Kubectl, profiles: Mapping[str, Any]) -> None:
    """The installed chart's, from now on: another operator has read them."""
    command = [
        tools.helm, "upgrade", install.RELEASE, str(ROOT / "charts" / "modelyard"), "--reset-then-reuse-values",
        "--wait", "--timeout", "120s", "--namespace", install.SYSTEM_NAMESPACE,
        "--set-json", f"profiles={json.dumps(profiles)}", "--set", "dashboards.enabled=true",
    ]  # fmt: skip
    done = subprocess.run(command, env=tools.env, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise AssertionError(f"installing the test's profiles failed: {done.stderr.strip()[-2000:]}")


def fresh_namespace(kube: Kube) -> None:
    """Removes what an interrupted run left; the namespace enforces the restricted Pod Security level."""
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    remove_namespace(kube, 180)
    kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube.namespace, "labels": level}}
    )
    deadline = time.monotonic() + 30
    while kube.get("serviceaccount", "default") is None:
        if time.monotonic() > deadline:
            raise AssertionError(f"namespace {kube.namespace} got no default service account in 30 s")
        time.sleep(0.1)


def remove_namespace(kube: Kube, seconds: int) -> None:
    """Deletes the namespace and waits. Raises AssertionError with what holds it after `seconds`."""
    limit = f"--timeout={seconds}s"
    try:
        kube.run("delete", "namespace", kube.namespace, "--ignore-not-found", limit, timeout=seconds + 10)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        conditions = (kube.get("namespace", kube.namespace) or {}).get("status", {}).get("conditions", [])
        held = "; ".join(c["message"] for c in conditions if c["status"] == "True") or str(error)
        raise AssertionError(
            f"namespace {kube.namespace} of an earlier run is not gone after {seconds} s: {held}"
        ) from error


def provide_inputs(cluster: Cluster, kube: Kube) -> None:
    """The demo's model and tweets in the claim `inputs`."""
    tools = Kubectl(cluster.tools.kubectl, cluster.tools.helm, cluster.tools.kubeconfig, kube.namespace)
    load_inputs(tools, prepare_inputs(), cluster.images["operator"])


class OperatorDeployment:
    """The installed operator, to be killed and brought back."""

    def __init__(self, cluster: Cluster) -> None:
        self.kube = cluster.kube(install.SYSTEM_NAMESPACE)
        self.deployment = f"deployment/{install.RELEASE}"

    def kill(self) -> None:
        """No grace, and no successor until `start`; where that fails, the operator is brought back at once."""
        selector = f"app.kubernetes.io/instance={install.RELEASE}"
        try:
            self.kube.run("scale", self.deployment, "--replicas=0")
            self.kube.run("delete", "pods", "-l", selector, "--grace-period=0", "--force")
        except BaseException:
            self.start()  # every test after this one needs it
            raise

    def start(self) -> None:
        """One replica again, ready."""
        self.kube.run("scale", self.deployment, "--replicas=1")
        self.kube.run("rollout", "status", self.deployment, "--timeout=180s", timeout=190)

    def logs(self) -> list[dict[str, Any]]:
        """The operator's log lines."""
        text = self.kube.run("logs", self.deployment, "--tail=-1", check=False)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def wait_job_complete(self, kube: Kube, job: str, seconds: int) -> None:
        """Until a batch Job is complete."""
        kube.run(
            "wait", f"job/{job}", "--for=condition=Complete", f"--timeout={seconds}s", timeout=seconds + 10
        )
