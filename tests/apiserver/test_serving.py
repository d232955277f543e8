"""ModelDeployments on a real API server with its controllers; the tests play the kubelet."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.apiserver.conftest import Kubectl, StartOperator
from tests.apiserver.test_operator import CALLS, MORTAL, wait
from tests.fakes.podstatus import describe_pod

KINDS = "modeldeployments,deployments,services,serviceaccounts,rolebindings,poddisruptionbudgets,jobs"


class Town:
    """ModelDeployments of one namespace."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self.namespace = namespace

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self._kubectl("--namespace", self.namespace, *arguments, **options)

    def create(self, name: str, **spec: Any) -> None:
        """One of a model that lies in a claim."""
        made = {
            "apiVersion": "modelyard.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name},
            "spec": {
                "model": {"uri": "pvc://models/m"}, "storage": {"uri": "pvc://models"},
                "scaling": {"scaler": "none"}, **spec,
            },
        }  # fmt: skip
        self("create", "-f", "-", input=json.dumps(made))

    def find(self, kinds: str, selector: str = "") -> list[dict[str, Any]]:
        chosen = ("--selector", selector) if selector else ()
        found: list[dict[str, Any]] = json.loads(self("get", kinds, *chosen, "--output=json").stdout)["items"]
        return [o for o in found if o["metadata"]["name"] not in ("default", "kubernetes")]

    def status(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self("get", "md", name, "--output=json").stdout).get("status") or {})

    def condition(self, name: str, kind: str) -> tuple[str, str] | None:
        found = [c for c in self.status(name).get("conditions", ()) if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else None

    def play(self) -> None:
        """What a kubelet would say of pods that nobody has looked at: builds end well, all else becomes ready."""
        for pod in self.find("pods"):
            if "deletionTimestamp" in pod["metadata"] or pod["status"].get("phase") != "Pending":
                continue
            stage = pod["metadata"]["labels"].get("modelyard.dev/stage")
            patch = json.dumps({"status": describe_pod(str(stage))})
            self("patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge",
                 "--patch-file=/dev/stdin", input=patch, check=False)  # fmt: skip

    def serves(self, name: str) -> bool:
        """Plays until what the spec asks for serves."""
        self.play()
        generation = json.loads(self("get", "md", name, "--output=json").stdout)["metadata"]["generation"]
        status = self.status(name)
        good = {c["type"] for c in status.get("conditions", ()) if c["status"] == "True"}
        return (
            status.get("observedGeneration") == generation
            and {"Ready", "UpToDate"} <= good
            and "Reconciling" not in good
        )

    def rests(self, seconds: float) -> bool:
        """Whether nothing changes for so long."""
        before = self.versions()
        time.sleep(seconds)
        return self.versions() == before

    def versions(self) -> dict[str, str]:
        return {
            f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"] for o in self.find(KINDS)
        }


@pytest.fixture
def town(kubectl: Kubectl, namespace: str, crds: None) -> Town:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "modelyard-gateway"},
        "rules": [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}],
    }  # fmt: skip
    kubectl("apply", "-f", "-", input=json.dumps(role))
    return Town(kubectl, namespace)


def test_a_deployment_is_brought_to_serve_changed_and_then_costs_no_call(
    town: Town, operator: StartOperator
) -> None:
    process = operator("--no-leader-election")
    process.wait_for("cache filled")
    town.create("m", replicas=2)
    wait("it serves", lambda: town.serves("m"), 60)
    (first,) = town.find("deployments", "app.kubernetes.io/component=server")
    assert first["status"]["readyReplicas"] == 2
    # Kubernetes has it that gateways hear of weights from the slices that they watch.
    slices = town.find("endpointslices", "modelyard.dev/modeldeployment=m,modelyard.dev/weight=100")
    assert {s["metadata"]["labels"]["modelyard.dev/concurrency"] for s in slices} == {"8"}
    assert {s["metadata"]["labels"]["modelyard.dev/speaks"] for s in slices} == {"builtin"}
    account = f"system:serviceaccount:{town.namespace}:m-gateway"
    assert town("auth", "can-i", "watch", "endpointslices", "--as", account).stdout.strip() == "yes"
    assert town("auth", "can-i", "get", "secrets", "--as", account, check=False).stdout.strip() == "no"

    town("patch", "md", "m", "--type=merge", "--patch", '{"spec":{"server":{"maxLength":32}}}')
    wait(
        "the next revision serves, and no other",
        lambda: town.serves("m") and len(town.status("m")["revisions"]) == 2,
        150,  # gateways that tell nothing are waited for
    )
    wait(
        "the first is gone", lambda: len(town.find("deployments", "app.kubernetes.io/component=server")) == 1
    )
    town("scale", "md/m", "--replicas=1")
    wait("one server", lambda: town.serves("m") and town.status("m")["replicas"] == 1, 30)
    (server,) = town.find("deployments", "app.kubernetes.io/component=server")
    town("scale", "deployment", server["metadata"]["name"], "--replicas=3")
    wait(
        "who scales the servers is told so",
        lambda: town.condition("m", "ScalingReady") == ("False", "Contested"),
        30,
    )
    wait("and is overruled", lambda: town.serves("m") and town.status("m")["replicas"] == 1, 30)
    wait("rest", lambda: town.rests(3), 60)
    versions = town.versions()
    requests = process.samples(CALLS)
    time.sleep(6)
    assert process.samples(CALLS) == requests
    assert town.versions() == versions
    town("delete", "md", "m", "--wait=true")
    wait("everything is gone", lambda: town.find(KINDS) == [], 60)
    assert process.complaints() == []


def test_a_users_own_claim_and_account_outlive_a_deployment_that_would_have_made_the_same(
    town: Town, operator: StartOperator
) -> None:
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}}
    users = [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "m-models"}, "spec": claim},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "m-gateway"},
         "automountServiceAccountToken": False},
    ]  # fmt: skip
    town("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": users}))
    made = [o["metadata"]["uid"] for o in town.find("persistentvolumeclaims,serviceaccounts")]
    operator("--no-leader-election").wait_for("cache filled")
    town.create("m", storage={"claim": {"size": "100Gi"}}, model={"uri": "hf://a/b"})
    wait("it says so", lambda: town.condition("m", "Ready") == ("False", "NameTaken"), 30)
    town("delete", "md", "m", "--wait=true")
    wait("everything else is gone", lambda: town.find("deployments,services") == [], 60)
    left = town.find("persistentvolumeclaims,serviceaccounts")
    assert [o["metadata"]["uid"] for o in left] == made
    assert not any(o["metadata"].get("ownerReferences") or o["metadata"].get("labels") for o in left)


def test_killed_at_each_write_a_deployment_reaches_the_same_end(town: Town, operator: StartOperator) -> None:
    calm = operator("--no-leader-election")
    calm.wait_for("cache filled")
    town.create("calm")
    wait("it serves", lambda: town.serves("calm"), 60)
    expected = _compare(town, "calm")
    assert calm.stop() == 0
    town.create("hard")
    deaths = 0
    for _ in range(40):
        process = operator("--no-leader-election", script=MORTAL)
        process.wait_for("cache filled")
        for _ in range(20):
            town.play()
            try:
                process.process.wait(0.3)
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            process.stop()  # nothing was left to write
            break
        assert process.process.returncode == -signal.SIGKILL, process.log.read_text()[-2000:]
        deaths += 1
    assert town.serves("hard")
    assert _compare(town, "hard") == expected
    assert deaths >= 6  # what is written at once dies at once


def _compare(town: Town, name: str) -> dict[str, Any]:
    """The objects of one deployment with its name replaced, without what counts or names a moment."""
    state: dict[str, Any] = {}
    for obj in town.find(KINDS):
        own = obj["metadata"]["name"]
        if not (own == name or own.startswith(f"{name}-")):
            continue
        state[f"{obj['kind']}/{own.replace(name, 'x', 1)}"] = (
            sorted(obj["metadata"].get("labels", {})),
            [owner["kind"] for owner in obj["metadata"].get("ownerReferences", [])],
        )
    state["conditions"] = [(c["type"], c["status"], c["reason"]) for c in town.status(name)["conditions"]]
    return state
