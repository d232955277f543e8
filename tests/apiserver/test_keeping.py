"""What others delete and what pods say of themselves, on a real API server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.apiserver.conftest import Kubectl, StartOperator
from tests.apiserver.test_operator import Yard, has_job, settled, wait

PATIENCE = 15.0


@pytest.fixture
def place(kubectl: Kubectl, namespace: str, crds: None) -> Yard:
    return Yard(kubectl, namespace)


def find(place: Yard, resource: str, name: str) -> dict[str, Any] | None:
    found = place("get", resource, name, "--output=json", check=False)
    return json.loads(found.stdout) if found.returncode == 0 else None


def status_of(place: Yard, name: str) -> dict[str, Any]:
    job = find(place, "tj", name)
    return dict((job or {}).get("status") or {})


def end_pod(place: Yard, name: str, stage: str, code: int, result: dict[str, Any]) -> None:
    """Plays the kubelet: the stage's pod ends with this result."""
    chosen = ("--selector", f"modelyard.dev/trainingjob={name},modelyard.dev/stage={stage}", "--output=name")
    wait(f"the {stage} pod", lambda: place("get", "pods", *chosen).stdout.strip(), PATIENCE)
    pod = place("get", "pods", *chosen).stdout.split()[-1]
    ended = {"exitCode": code, "message": json.dumps(result), "finishedAt": "2026-01-01T00:00:00Z"}
    container = {
        "name": "trainer" if stage == "train" else stage, "image": "i", "imageID": "", "ready": False,
        "restartCount": 0, "state": {"terminated": ended},
    }  # fmt: skip
    phase = "Failed" if code else "Succeeded"
    patch = json.dumps({"status": {"phase": phase, "containerStatuses": [container]}})
    place("patch", pod, "--subresource=status", "--type=merge", "--patch-file=/dev/stdin", input=patch)


def prepared(**fields: Any) -> dict[str, Any]:
    return {"stage": "prepare", "outcome": "succeeded", "digest": "d", "modelDigest": "m", **fields}


def reason_of(place: Yard, name: str, kind: str = "Ready") -> str:
    found = place.condition(name, kind)
    return str(found["reason"]) if found else ""


def test_a_service_that_others_delete_comes_back_as_it_was(place: Yard, operator: StartOperator) -> None:
    process = operator("--no-leader-election")
    process.wait_for("cache filled")
    place.create("a")
    end_pod(place, "a", "prepare", 0, prepared())
    wait("the train Job", lambda: find(place, "job", "a-train-1"), PATIENCE)
    settled(place)
    service = find(place, "service", "a-train")
    assert service is not None
    writes = process.metric("modelyard_writes_total.*")
    place("delete", "service", "a-train")
    wait("the Service", lambda: find(place, "service", "a-train"), 5)
    settled(place)
    made = find(place, "service", "a-train")
    assert made is not None
    assert made["metadata"]["uid"] != service["metadata"]["uid"]
    for field in ("selector", "ports", "clusterIP", "publishNotReadyAddresses"):
        assert made["spec"][field] == service["spec"][field]
    assert process.metric("modelyard_writes_total.*") == writes + 1
    assert process.complaints() == []


def test_a_claim_that_is_deleted_under_a_job_is_told_at_once_and_ends_it_without_success(
    place: Yard, operator: StartOperator
) -> None:
    operator("--no-leader-election").wait_for("cache filled")
    place.create("a")
    end_pod(place, "a", "prepare", 0, prepared())
    wait("the train Job", lambda: find(place, "job", "a-train-1"), PATIENCE)
    hold = '{"metadata":{"finalizers":["test.example/hold"]}}'
    place("patch", "pvc", "a-storage", "--type=merge", "--patch", hold)
    place("delete", "pvc", "a-storage", "--wait=false")
    wait("the warning", lambda: reason_of(place, "a") == "StorageTerminating", 5)
    assert reason_of(place, "a", "CheckpointSafe") == "StorageTerminating"
    told = json.loads(place("get", "events", "--output=json").stdout)["items"]
    assert [e["type"] for e in told if e["reason"] == "StorageTerminating"] == ["Warning"]
    model = {"path": "runs/x/model", "digest": "sha256-model"}
    result = {"stage": "train", "outcome": "succeeded", "attempt": 1, "step": 3, "model": model}
    end_pod(place, "a", "train", 0, result)
    wait("the end", lambda: reason_of(place, "a", "Stalled") == "StorageTerminating", PATIENCE)
    assert reason_of(place, "a", "Succeeded") == "StorageTerminating"
    assert "model" not in status_of(place, "a")
    place("patch", "pvc", "a-storage", "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')


@pytest.mark.parametrize("deleted", [False, True])
def test_a_claim_of_the_users_is_read_before_the_job_succeeds(
    place: Yard, operator: StartOperator, deleted: bool
) -> None:
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "mine", "finalizers": ["test.example/hold"]},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    place("create", "-f", "-", input=json.dumps(claim))
    process = operator("--no-leader-election")
    process.wait_for("cache filled")
    place.create("a", storage={"uri": "pvc://mine/models"})
    end_pod(place, "a", "prepare", 0, prepared())
    wait("the train Job", lambda: find(place, "job", "a-train-1"), PATIENCE)
    if deleted:
        place("delete", "pvc", "mine", "--wait=false")
    reads = r'modelyard_api_requests_total\{.*method="GET",resource="persistentvolumeclaims".*'
    before = process.metric(reads)
    model = {"path": "runs/x/model", "digest": "sha256-model"}
    result = {"stage": "train", "outcome": "succeeded", "attempt": 1, "step": 3, "model": model}
    end_pod(place, "a", "train", 0, result)
    expected = "StorageTerminating" if deleted else "Succeeded"
    wait("the end", lambda: reason_of(place, "a", "Succeeded") == expected, PATIENCE)
    assert ("model" in status_of(place, "a")) is not deleted
    assert process.metric(reads) == before + 1
    place("patch", "pvc", "mine", "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')


def test_a_claim_that_an_earlier_job_of_the_name_leaves_is_named_and_waited_for(
    place: Yard, operator: StartOperator
) -> None:
    operator("--no-leader-election").wait_for("cache filled")
    place.create("a")
    wait("the Job", lambda: has_job(place, "a"), PATIENCE)
    hold = '{"metadata":{"finalizers":["test.example/hold"]}}'
    place("patch", "pvc", "a-storage", "--type=merge", "--patch", hold)
    place("delete", "tj", "a")
    place.create("a")
    wait("the reason", lambda: reason_of(place, "a") == "StorageTerminating", PATIENCE)
    assert reason_of(place, "a", "DataReady") == "StorageTerminating"
    place("patch", "pvc", "a-storage", "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')
    uid = str((find(place, "tj", "a") or {})["metadata"]["uid"])

    def begins() -> bool:
        job = find(place, "job", "a-prepare-1")
        return job is not None and job["metadata"]["ownerReferences"][0]["uid"] == uid

    wait("the new job's Job", begins, PATIENCE)
    wait("no complaint any more", lambda: reason_of(place, "a") != "StorageTerminating", PATIENCE)


def test_a_pod_may_say_what_it_likes_and_its_status_is_taken(place: Yard, operator: StartOperator) -> None:
    process = operator("--no-leader-election")
    process.wait_for("cache filled")
    place.create("a")
    rows = [{"step": "s" * 900, "reason": "r\x00\x1b[31m" * 40, "rows": 10**30}] * 100
    words = prepared(
        rowsIn=10**30, rowsOut=-5, removed=rows, splits={"t" * 500: 2**70}, modelRevision="v" * 999
    )
    end_pod(place, "a", "prepare", 0, words)
    wait("the data", lambda: status_of(place, "a").get("data"), PATIENCE)
    assert status_of(place, "a")["data"]["rowsOut"] == 0
    metrics = {
        **{f"m{i}": float(i) for i in range(3000)},
        "A" * 5000: 1e308,
        "loss": 0.5,
        "none": float("nan"),
    }
    checkpoint = {"step": 10**30, "path": "p" * 5000, "time": 1e30, "worldSize": -3, "metric": "x" * 300}
    failure = {
        "reason": "no reason: at all",
        "message": "\ud800" * 5000,
        "rank": 2**80,
        "excerpt": "é\r" * 9000,
    }
    result = {
        "stage": "train", "outcome": "failed", "attempt": 1, "step": 10**30, "maxSteps": -1, "lostSteps": 2**64,
        "metrics": metrics, "lastCheckpoint": checkpoint, "bestCheckpoint": checkpoint, "failure": failure,
        "processRestarts": 10**40,
    }  # fmt: skip
    end_pod(place, "a", "train", 1, result)
    wait("the end of the attempt", lambda: status_of(place, "a")["attempts"][-1].get("cause"), PATIENCE)
    ended = status_of(place, "a")["attempts"][-1]
    assert ended["failure"]["reason"] == "UserCodeError"
    assert ended["toStep"] == 2**53 - 1
    assert len(json.dumps(status_of(place, "a"))) < 64 * 1024
    assert process.metric("modelyard_refused_writes_total.*") == 0
    assert process.complaints() == []


def test_a_status_that_is_refused_all_the_same_is_told_and_not_tried_for_ever(
    place: Yard, operator: StartOperator, kubectl: Kubectl, namespace: str
) -> None:
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    rule = {
        "apiGroups": ["modelyard.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
        "resources": ["trainingjobs/status"],
    }  # fmt: skip
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": namespace},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [rule], "namespaceSelector": chosen},
            "validations": [{"expression": "false", "message": "statuses are frozen today"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"]},
    }
    for manifest in (policy, binding):
        kubectl("apply", "-f", "-", input=json.dumps(manifest))
    try:
        place.create("probe")
        frozen = '{"status":{"phase":"Pending"}}'
        refused = ("patch", "tj", "probe", "--subresource=status", "--type=merge", "--patch", frozen)
        wait("the policy", lambda: place(*refused, check=False).returncode, PATIENCE)
        place("delete", "tj", "probe")
        process = operator("--no-leader-election")
        process.wait_for("cache filled")
        place.create("a")
        process.wait_for("status refused", PATIENCE)
        wait("the Job", lambda: has_job(place, "a"), PATIENCE)

        def told() -> list[dict[str, Any]]:
            found = json.loads(place("get", "events", "--output=json").stdout)["items"]
            return [e for e in found if e["reason"] == "StatusRefused"]

        wait("the Event", told, PATIENCE)
        assert "statuses are frozen today" in told()[0]["message"]
        wait("a second try", lambda: process.metric("modelyard_refused_writes_total.*") >= 2, PATIENCE)
        assert process.metric("modelyard_refused_writes_total.*") <= 6
        assert len(told()) == 1
    finally:
        kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", namespace)
    wait("the status", lambda: status_of(place, "a").get("phase") == "Preparing", 70)
