"""Brings up what the end-to-end tests run on: cluster, images, chart. Each step is a no-op when it is already true."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.harness import Kube

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "modelyard-system"
NAMESPACE = "e2e"
RELEASE = "modelyard"


def run(*command: str, stdin: str | None = None) -> str:
    """Runs a command from the checkout; its standard output. Fails with what it printed."""
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


@dataclass(frozen=True)
class Cluster:
    """The running cluster and what was loaded into it."""

    kubeconfig: str
    kubectl: str
    helm: str
    operator_image: str
    trainer_image: str

    def kube(self, namespace: str) -> Kube:
        """kubectl in one namespace."""
        return Kube(self.kubectl, self.kubeconfig, namespace)


def bring_up() -> Cluster:
    """Cluster up, images built and loaded, chart installed with a second profile `hub`."""
    run(sys.executable, "-m", "tests.cluster", "up", "--name", "default")
    run(sys.executable, "images/build.py", "all", "--load", "default")
    tags: dict[str, str] = json.loads(run(sys.executable, "images/build.py", "tags"))
    env = dict(line.split("=", 1) for line in _exports(run(sys.executable, "-m", "tests.cluster", "env")))
    folder = env["PATH"].split(":")[0].strip("\"'")
    cluster = Cluster(
        kubeconfig=env["KUBECONFIG"].strip("\"'"), kubectl=f"{folder}/kubectl", helm=f"{folder}/helm",
        operator_image=tags["operator"], trainer_image=tags["trainer"],
    )  # fmt: skip
    install(cluster)
    return cluster


def _exports(text: str) -> list[str]:
    return [line.removeprefix("export ") for line in text.splitlines() if line.startswith("export ")]


def install(cluster: Cluster) -> None:
    """Installs or upgrades the chart, as a user would, and waits for the operator."""
    values: dict[str, Any] = {
        "image": _split(cluster.operator_image),
        "trainerImage": _split(cluster.trainer_image),
        "profiles": {
            "default": {},
            "hub": {"env": [{"name": "HF_ENDPOINT", "value": f"http://web.{NAMESPACE}:8080"}]},
        },
    }
    run(
        cluster.helm, "upgrade", "--install", RELEASE, "charts/modelyard", "--kubeconfig", cluster.kubeconfig,
        "--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "120s", "-f", "-",
        stdin=json.dumps(values),
    )  # fmt: skip


def _split(image: str) -> dict[str, str]:
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}


def fresh_namespace(kube: Kube) -> None:
    """Removes what an interrupted run left; the namespace enforces the restricted Pod Security level."""
    level = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    kube.run("delete", "namespace", kube.namespace, "--ignore-not-found", "--wait", timeout=180)
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube.namespace, "labels": level}})
    deadline = time.monotonic() + 30
    while kube.get("serviceaccount", "default") is None and time.monotonic() < deadline:
        time.sleep(0.1)


class OperatorDeployment:
    """The installed operator, to be killed and brought back."""

    def __init__(self, cluster: Cluster) -> None:
        self.kube = cluster.kube(SYSTEM)

    def kill(self) -> None:
        """No grace, and no successor until `start`."""
        self.kube.run("scale", f"deployment/{RELEASE}", "--replicas=0")
        self.kube.run("delete", "pods", "-l", "app.kubernetes.io/name=modelyard", "--grace-period=0", "--force")

    def start(self) -> None:
        """One replica again, ready."""
        self.kube.run("scale", f"deployment/{RELEASE}", "--replicas=1")
        self.kube.run("rollout", "status", f"deployment/{RELEASE}", "--timeout=60s", timeout=70)

    def logs(self) -> list[dict[str, Any]]:
        """The operator's log lines."""
        text = self.kube.run("logs", f"deployment/{RELEASE}", "--tail=-1", check=False)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def wait_job_complete(self, kube: Kube, job: str, seconds: int) -> None:
        """Until a batch Job is complete."""
        kube.run("wait", f"job/{job}", "--for=condition=Complete", f"--timeout={seconds}s", timeout=seconds + 10)
