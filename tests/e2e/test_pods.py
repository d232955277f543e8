"""What a cluster's owner puts in the way of our pods: containers of others, quotas, images that don't fit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.harness import Kube, TrainingJob, condition, restricted_pod
from tests.e2e.jobs import SMALL_POD, classification
from tests.e2e.setup import NAMESPACE

SOON = 15.0
MESHED = "meshed"
SECURITY = (
    "Object.spec.containers.securityContext{allowPrivilegeEscalation: false, runAsNonRoot: true,"
    ' capabilities: Object.spec.containers.securityContext.capabilities{drop: ["ALL"]}}'
)


@pytest.fixture
def mesh(kube: Kube, trainer_image: str) -> Iterator[str]:
    """A policy that puts a container, which runs on for ever, before ours in every pod of one job."""
    name = "aaa-mesh"
    command = '["sh", "-c", "trap exit TERM; while :; do sleep 1; done"]'
    value = (
        f'Object.spec.containers{{name: "{name}", image: "{trainer_image}", imagePullPolicy: "IfNotPresent",'
    )
    value += f" command: {command}, securityContext: {SECURITY}}}"
    patch = f'[JSONPatch{{op: "add", path: "/spec/containers/0", value: {value}}}]'
    match = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "objectSelector": {"matchLabels": {"modelyard.dev/trainingjob": MESHED}},
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        ],
    }
    spec = {
        "failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": match,
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }  # fmt: skip
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": f"{NAMESPACE}-mesh"}}
    kube.apply(
        {**api, "kind": "MutatingAdmissionPolicy", "spec": spec},
        {**api, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": f"{NAMESPACE}-mesh"}},
    )
    sample = restricted_pod("sample", trainer_image, ["true"], labels={"modelyard.dev/trainingjob": MESHED})
    deadline = time.monotonic() + 30
    while name not in kube.run(
        "create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(sample)
    ):
        assert time.monotonic() < deadline, "the policy has no effect"
        time.sleep(0.2)
    yield name
    for kind in ("mutatingadmissionpolicy", "mutatingadmissionpolicybinding"):
        kube.delete(kind, f"{NAMESPACE}-mesh")


def test_a_container_that_a_mesh_adds_and_that_runs_on_holds_nothing_up(
    kube: Kube, reviews: None, mesh: str
) -> None:
    job = TrainingJob(kube, MESHED, classification(steps=20, nodes=2)).create()
    job.wait("the prepare pod", lambda _: kube.pods(MESHED, "prepare"), 60)
    pods = kube.pods(MESHED, "prepare")
    assert [c["name"] for c in pods[0]["spec"]["containers"]] == [mesh, "prepare"]
    status = job.wait_succeeded(300)
    assert len(status["attempts"]) == 1
    assert status["prepareAttempt"] == 1
    events = kube.find("events")
    warnings = [e["message"] for e in events if e["reason"] == "ContainerRunsOn"]
    assert warnings
    assert mesh in warnings[0]
    job.wait("the end of the pods", lambda _: not kube.pods(MESHED, "prepare") and not kube.pods(MESHED), 90)
    assert condition(job.status(), "Succeeded")["status"] == "True"
    job.delete()


def test_a_quota_that_refuses_the_pod_is_named_with_what_to_change(kube: Kube, reviews: None) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
    kube.apply({**quota, "spec": {"hard": {"limits.memory": "1Gi"}}})
    try:
        job = TrainingJob(kube, "over-quota", classification(steps=5)).create()
        found = job.wait_reason("DataReady", "QuotaExceeded", SOON)
        assert "exceeded quota: small" in found["message"]
        assert "spec.data.resources" in found["message"]
    finally:
        kube.delete("quota", "small")
    job.wait("the pod", lambda _: kube.pods(job.name, "prepare"), 120)
    job.delete()


def own(image: str, command: list[str], **pod: Any) -> dict[str, Any]:
    """A program of one's own that may be tried again."""
    return {
        "trainer": {
            "image": image, "command": command, "numProcPerNode": 1, "resourcesPerNode": SMALL_POD,
            "podTemplate": {"spec": pod} if pod else {},
        },
        "failurePolicy": {"maxRestarts": 3},
    }  # fmt: skip


def test_an_image_without_python_is_named_at_once(kube: Kube) -> None:
    job = TrainingJob(kube, "no-python", own("localhost/pause:1", ["train"])).create()
    status = job.wait_stalled("ContainerCannotRun", 90)
    message = condition(status, "Stalled")["message"]
    assert "python3" in message
    assert "localhost/pause:1" in message
    assert len(status["attempts"]) == 1
    job.delete()


def test_a_program_that_the_image_lacks_is_named_at_once(kube: Kube, trainer_image: str) -> None:
    job = TrainingJob(kube, "no-program", own(trainer_image, ["train-it", "--fast"])).create()
    status = job.wait_stalled("CommandNotFound", 90)
    assert "'train-it'" in condition(status, "Stalled")["message"]
    assert len(status["attempts"]) == 1
    job.delete()


def test_a_config_map_that_a_volume_names_and_that_is_missing_is_named(
    kube: Kube, trainer_image: str
) -> None:
    volumes = [{"name": "script", "configMap": {"name": "nowhere"}}]
    # A volume that no container mounts is not waited for.
    mounts = [{"name": "trainer", "volumeMounts": [{"name": "script", "mountPath": "/scripts"}]}]
    job = TrainingJob(
        kube, "no-script", own(trainer_image, ["true"], volumes=volumes, containers=mounts)
    ).create()
    found = job.wait_reason("PodsReady", "VolumeMountFailed", 30)
    assert 'configmap "nowhere" not found' in found["message"]
    created = kube.pods(job.name)[0]["metadata"]["creationTimestamp"]
    lag = datetime.fromisoformat(found["lastTransitionTime"]) - datetime.fromisoformat(created)
    assert lag.total_seconds() <= SOON, json.dumps(found)
    job.delete()
