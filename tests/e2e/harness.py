"""Kubernetes as the end-to-end tests use it: kubectl in a subprocess, waiting on what status says."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

Object = dict[str, Any]


class WaitTimeoutError(AssertionError):
    """What was waited for did not come; the message holds the job's status and its pods' logs."""


@dataclass(frozen=True)
class Kube:
    """One cluster seen through kubectl, in one namespace."""

    kubectl: str
    kubeconfig: str
    namespace: str

    def run(self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Runs kubectl; returns its standard output. Raises AssertionError with what it wrote to stderr."""
        done = subprocess.run(
            [self.kubectl, "-n", self.namespace, *args],
            input=stdin, capture_output=True, text=True, timeout=timeout, check=False,
            env={**os.environ, "KUBECONFIG": self.kubeconfig},
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)} failed: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Server-side apply of manifests."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(items))

    def get(self, resource: str, name: str) -> Object | None:
        """One object, or None where there is none."""
        text = self.run("get", resource, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def find(self, resource: str, selector: str = "") -> list[Object]:
        """Objects of one kind by label selector."""
        args = ["get", resource, "-o", "json"] + (["-l", selector] if selector else [])
        items: list[Object] = json.loads(self.run(*args))["items"]
        return items

    def pods(self, job: str, stage: str = "train") -> list[Object]:
        """Pods of a TrainingJob's stage."""
        return self.find("pods", f"modelyard.dev/trainingjob={job},modelyard.dev/stage={stage}")

    def execute(self, pod: str, *command: str, timeout: float = 120) -> str:
        """Runs a command in a pod."""
        return self.run("exec", pod, "--", *command, timeout=timeout)

    def delete(self, resource: str, name: str, *args: str) -> None:
        """Deletes and waits."""
        self.run("delete", resource, name, "--ignore-not-found", *args, timeout=180)


@dataclass
class CustomResource:
    """A custom resource in the cluster. `stages` are those of its pods whose logs tell why a test failed."""

    kind: ClassVar[str]
    stages: ClassVar[tuple[str, ...]]

    kube: Kube
    name: str
    spec: dict[str, Any]
    labels: dict[str, str] = field(default_factory=dict)

    def create(self) -> Self:
        """Applies it."""
        self.kube.apply(self.manifest())
        return self

    def manifest(self) -> Object:
        """The custom resource."""
        meta = {"name": self.name, "namespace": self.kube.namespace, "labels": self.labels}
        return {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": self.kind,
            "metadata": meta,
            "spec": self.spec,
        }

    def patch(self, spec: Mapping[str, Any]) -> None:
        """Merges into the spec."""
        self.kube.run("patch", self.kind, self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def status(self) -> dict[str, Any]:
        """Its status; empty once it is gone."""
        found = self.kube.get(self.kind, self.name)
        return found.get("status", {}) if found else {}

    def wait(self, what: str, holds: Callable[[dict[str, Any]], object], timeout: float) -> dict[str, Any]:
        """Polls the status until `holds` is true; fails with everything known about the job."""
        deadline = time.monotonic() + timeout
        while True:
            status = self.status()
            if holds(status):
                return status
            if time.monotonic() > deadline:
                raise WaitTimeoutError(
                    f"{self.name}: {what} did not come in {timeout:.0f} s\n{self.describe()}"
                )
            time.sleep(0.5)

    def wait_reason(self, kind: str, reason: str, timeout: float = 30) -> dict[str, Any]:
        """Until the condition `kind` has this reason; returns the condition."""
        status = self.wait(f"{kind}/{reason}", lambda s: condition(s, kind).get("reason") == reason, timeout)
        return condition(status, kind)

    def delete(self) -> None:
        """Deletes it and waits until it is gone."""
        self.kube.delete(self.kind, self.name)

    def pods(self, stage: str) -> list[Object]:
        """Its pods of one stage."""
        label = f"modelyard.dev/{self.kind.lower()}={self.name}"
        return self.kube.find("pods", f"{label},modelyard.dev/stage={stage}")

    def describe(self) -> str:
        """Status, pods and the ends of their logs, for a failure's message."""
        parts = [json.dumps(self.status(), indent=1)]
        for stage in self.stages:
            for pod in self.pods(stage):
                name = pod["metadata"]["name"]
                states = [c.get("state") for c in pod["status"].get("containerStatuses", [])]
                parts.append(f"--- {name} {pod['status'].get('phase')} {json.dumps(states)}")
                parts.append(self.kube.run("logs", name, "--tail=40", check=False))
        return "\n".join(parts)


@dataclass
class TrainingJob(CustomResource):
    """A TrainingJob in the cluster."""

    kind = "TrainingJob"
    stages = ("prepare", "train", "collect")

    def wait_succeeded(self, timeout: float = 300) -> dict[str, Any]:
        """Until Succeeded; fails at once when it stalls."""
        status = self.wait("an end", lambda s: is_true(s, "Succeeded") or is_true(s, "Stalled"), timeout)
        if not is_true(status, "Succeeded"):
            raise AssertionError(f"{self.name} stalled\n{self.describe()}")
        return status

    def wait_stalled(self, reason: str, timeout: float = 180) -> dict[str, Any]:
        """Until Stalled with this reason; fails at once when it ends otherwise."""
        status = self.wait("an end", lambda s: is_true(s, "Succeeded") or is_true(s, "Stalled"), timeout)
        stalled = condition(status, "Stalled")
        if stalled.get("reason") != reason:
            raise AssertionError(f"{self.name} ended with {stalled}, not {reason}\n{self.describe()}")
        return status

    def wait_step(self, step: int, timeout: float = 180) -> dict[str, Any]:
        """Until training has done so many steps, as the pod itself says (the status is slower)."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            report = self.progress()
            if report.get("step", 0) >= step:
                return report
            status = self.status()
            if is_true(status, "Stalled") or is_true(status, "Succeeded"):
                raise AssertionError(f"{self.name} ended before step {step} was seen\n{self.describe()}")
            time.sleep(0.3)
        raise WaitTimeoutError(f"{self.name}: step {step} did not come in {timeout:.0f} s\n{self.describe()}")

    def progress(self) -> dict[str, Any]:
        """What rank 0's agent answers; empty while there is none."""
        for pod in self.kube.pods(self.name):
            if pod["status"].get("phase") != "Running" or not pod["metadata"]["name"].rsplit("-", 1)[
                0
            ].endswith("-0"):
                continue
            path = f"/api/v1/namespaces/{self.kube.namespace}/pods/{pod['metadata']['name']}:9400/proxy/v1/progress"
            # The address of a pod that is ending leads nowhere, and the proxy would try it for 30 s.
            text = self.kube.run("get", "--raw", path, "--request-timeout=2s", check=False)
            if text.strip().startswith("{"):
                found: dict[str, Any] = json.loads(text)
                return found
        return {}


@dataclass
class ModelDeployment(CustomResource):
    """A ModelDeployment in the cluster."""

    kind = "ModelDeployment"
    stages = ("build", "server", "gateway")

    def wait_ready(self, timeout: float = 180) -> dict[str, Any]:
        """Until what the spec asks for serves; fails at once when it stalls."""
        generation = int((self.kube.get(self.kind, self.name) or {})["metadata"]["generation"])

        def ends(status: dict[str, Any]) -> bool:
            seen = status.get("observedGeneration", -1) >= generation
            serves = is_true(status, "Ready") and is_true(status, "UpToDate")
            return seen and (is_true(status, "Stalled") or (serves and not is_true(status, "Reconciling")))

        status = self.wait("readiness", ends, timeout)
        if is_true(status, "Stalled"):
            raise AssertionError(f"{self.name} stalled\n{self.describe()}")
        return status

    @contextlib.contextmanager
    def serving(self, timeout: float = 180) -> Iterator[Self]:
        """Created, ready within so many seconds, and deleted at the end of the block, whatever becomes of it."""
        self.create()
        try:
            self.wait_ready(timeout)
            yield self
        finally:
            self.delete()

    def living(self, stage: str) -> list[Object]:
        """Its pods of one stage that are not ending."""
        return [pod for pod in self.pods(stage) if "deletionTimestamp" not in pod["metadata"]]

    def servers(self) -> list[Object]:
        """Its servers that are not ending."""
        return self.living("server")


def is_ready(pod: Object) -> bool:
    """Whether a pod is."""
    return is_true(pod["status"], "Ready")


def condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The condition of one type; empty where there is none."""
    return next((dict(c) for c in status.get("conditions", []) if c["type"] == kind), {})


def is_true(status: Mapping[str, Any], kind: str) -> bool:
    """Whether the condition holds."""
    return condition(status, kind).get("status") == "True"


def restricted_pod(
    name: str, image: str, command: Sequence[str], claims: Mapping[str, str] | None = None,
    config_maps: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Object:  # fmt: skip
    """A pod that the restricted Pod Security level admits. `claims` and `config_maps`: mount path -> object."""
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}]
    for index, (path, claim) in enumerate((claims or {}).items()):
        volumes.append({"name": f"claim-{index}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"claim-{index}", "mountPath": path})
    for index, (path, config_map) in enumerate((config_maps or {}).items()):
        volumes.append({"name": f"config-{index}", "configMap": {"name": config_map}})
        mounts.append({"name": f"config-{index}", "mountPath": path})
    container = {
        "name": "main", "image": image, "command": list(command), "volumeMounts": mounts,
        "env": [{"name": k, "value": v} for k, v in {"HOME": "/tmp", **(env or {})}.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
        },
    }  # fmt: skip
    security = {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "securityContext": security,
            "containers": [container], "volumes": volumes,
        },
    }  # fmt: skip
