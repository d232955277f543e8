"""What admission does to the pods of our Jobs, on a real API server and Job controller; tests play the kubelet."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.apiserver.conftest import Kubectl, StartOperator
from tests.apiserver.test_operator import Yard, wait, yard

__all__ = ["yard"]

STAGES = {"prepare": "prepare", "train": "trainer", "collect": "collect"}
# From the creation of the Job whose pods are refused.
SOON = 15.0
PREPARED = {"contractVersion": 1, "stage": "prepare", "outcome": "succeeded", "digest": "sha256-d"}
TRAINED = {"contractVersion": 1, "stage": "train", "outcome": "succeeded", "attempt": 1, "step": 3,
           "model": {"path": "runs/m", "digest": "sha256-m"}}  # fmt: skip


def pods(yard: Yard, stage: str) -> list[dict[str, Any]]:
    selector = f"--selector=modelyard.dev/stage={stage}"
    found: list[dict[str, Any]] = json.loads(yard("get", "pods", selector, "--output=json").stdout)["items"]
    return found


def report(yard: Yard, stage: str, result: dict[str, Any] | None, mesh: str | None = None) -> None:
    """As the kubelet does when our container has ended well; another one, `mesh`, runs on."""
    wait(f"the {stage} pod", lambda: pods(yard, stage), timeout=30)
    ended: dict[str, Any] = {"exitCode": 0, "reason": "Completed", "finishedAt": now()}
    if result is not None:
        ended["message"] = json.dumps(result)
    states = {STAGES[stage]: {"terminated": ended}}
    if mesh:
        states[mesh] = {"running": {"startedAt": now()}}
    containers = [
        {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        for name, state in sorted(states.items())
    ]
    status = {"status": {"phase": "Running" if mesh else "Succeeded", "containerStatuses": containers}}
    name = pods(yard, stage)[0]["metadata"]["name"]
    yard("patch", "pod", name, "--subresource=status", "--type=merge", "--patch", json.dumps(status))


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def reached(yard: Yard, name: str, kind: str, reason: str) -> Callable[[], bool]:
    return lambda: (yard.condition(name, kind) or {}).get("reason") == reason


@contextmanager
def policy(kubectl: Kubectl, namespace: str, kind: str, spec: dict[str, Any]) -> Iterator[None]:
    """An admission policy on the pods of one namespace."""
    match = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        ],
    }
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": namespace}}
    bound = {"policyName": namespace}
    if kind == "ValidatingAdmissionPolicy":
        bound["validationActions"] = ["Deny"]  # type: ignore[assignment]
    objects = [
        {**api, "kind": kind, "spec": {"failurePolicy": "Fail", "matchConstraints": match, **spec}},
        {**api, "kind": f"{kind}Binding", "spec": bound},
    ]
    kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    try:
        yield
    finally:
        kubectl("delete", f"{kind},{kind}binding", namespace)


def probe(kubectl: Kubectl, namespace: str, **labels: str) -> tuple[int, str]:
    """What becomes of a pod with these labels."""
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }  # fmt: skip
    done = kubectl(
        "--namespace", namespace, "create", "--dry-run=server", "--output=json", "-f", "-",
        input=json.dumps(pod), check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_a_policy_that_refuses_pods_is_named_with_its_sentence_for_every_job(
    stage: str, yard: Yard, operator: StartOperator, kubectl: Kubectl, namespace: str
) -> None:
    label = "modelyard.dev/stage"
    expression = f"!(has(object.metadata.labels) && '{label}' in object.metadata.labels &&"
    expression += f" object.metadata.labels['{label}'] == '{stage}')"
    rule = {"validations": [{"expression": expression, "message": "name a cost centre"}]}
    with policy(kubectl, namespace, "ValidatingAdmissionPolicy", rule):
        wait("the policy", lambda: probe(kubectl, namespace, **{label: stage})[0] != 0)
        process = operator("--no-leader-election")
        process.wait_for("cache filled")
        yard.create("a")
        if stage != "prepare":
            report(yard, "prepare", PREPARED)
        if stage == "collect":
            report(yard, "train", None)
        job = f"a-{stage}-1"
        wait("the Job", lambda: yard("get", "job", job, check=False).returncode == 0)
        wait("the refusal", reached(yard, "a", "Ready", "Forbidden"), timeout=SOON)
        ready = yard.condition("a", "Ready") or {}
        assert "name a cost centre" in ready["message"]
        assert job in ready["message"]
    wait("the pod", lambda: pods(yard, stage), timeout=90)
    wait("no complaint any more", lambda: not reached(yard, "a", "Ready", "Forbidden")())
    assert process.complaints() == []


@pytest.mark.parametrize(
    ("manifest", "reason", "words"),
    [
        (
            {"kind": "ResourceQuota", "spec": {"hard": {"limits.memory": "1Gi"}}},
            "QuotaExceeded",
            "exceeded quota: small",
        ),
        (
            {"kind": "LimitRange", "spec": {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}},
            "LimitExceeded",
            "maximum memory usage per Container is 1Gi",
        ),
    ],
)
def test_a_bound_on_resources_is_named_and_less_can_be_asked_for(
    manifest: dict[str, Any], reason: str, words: str, yard: Yard, operator: StartOperator
) -> None:
    yard(
        "create", "-f", "-", input=json.dumps({"apiVersion": "v1", "metadata": {"name": "small"}, **manifest})
    )
    if reason == "QuotaExceeded":
        wait("the quota", lambda: '"used"' in yard("get", "quota", "small", "--output=json").stdout)
    operator("--no-leader-election").wait_for("cache filled")
    yard.create("a")
    wait("the refusal", reached(yard, "a", "DataReady", reason), timeout=SOON)
    message = (yard.condition("a", "DataReady") or {})["message"]
    assert words in message
    assert "spec.data.resources" in message

    def change(**spec: Any) -> None:
        yard("patch", "tj", "a", "--type=merge", "--patch", json.dumps({"spec": spec}))

    change(suspend=True)
    wait("the suspension", reached(yard, "a", "Suspended", "Suspended"))
    change(suspend=False, data={"resources": {"limits": {"cpu": "1", "memory": "500Mi"}}})
    wait("a pod", lambda: pods(yard, "prepare"))
    (container,) = pods(yard, "prepare")[0]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "500Mi"}


def quota(name: str, **hard: str) -> dict[str, Any]:
    return {"kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}}


def limits(kind: str, **bounds: Any) -> dict[str, Any]:
    return {
        "kind": "LimitRange",
        "metadata": {"name": "bounds"},
        "spec": {"limits": [{"type": kind, **bounds}]},
    }


@pytest.mark.parametrize(
    ("manifest", "reason", "words"),
    [
        (
            quota("disk", **{"requests.storage": "1Mi"}),
            "QuotaExceeded",
            ("PersistentVolumeClaim/a-storage: exceeded quota: disk", "spec.storage.claim.size"),
        ),
        (
            limits("PersistentVolumeClaim", max={"storage": "1Mi"}),
            "LimitExceeded",
            ("PersistentVolumeClaim/a-storage: maximum storage", "spec.storage.claim.size"),
        ),
        (
            limits("Container", default={"cpu": "10m"}),
            "LimitExceeded",
            ("must be less than or equal to cpu limit", "set limits, too, in spec.data.resources"),
        ),
    ],
    ids=["a quota of storage", "a bound on claims", "a default limit below the request"],
)
def test_what_a_namespace_allows_is_named_with_the_field_that_asks_for_more(
    manifest: dict[str, Any], reason: str, words: tuple[str, ...], yard: Yard, operator: StartOperator
) -> None:
    yard("create", "-f", "-", input=json.dumps({"apiVersion": "v1", **manifest}))
    if manifest["kind"] == "ResourceQuota":
        wait("the quota", lambda: '"used"' in yard("get", "quota", "--output=json").stdout)
    operator("--no-leader-election").wait_for("cache filled")
    asked = {"requests": {"cpu": "500m", "memory": "100Mi"}}
    sources = [{"name": "r", "uri": "pvc://data/r.csv"}]
    yard.create("a", data={"sources": sources, "resources": asked})
    wait("the refusal", reached(yard, "a", "DataReady", reason), timeout=SOON)
    message = (yard.condition("a", "DataReady") or {})["message"]
    assert [word for word in words if word not in message] == [], message
    yard("delete", manifest["kind"], manifest["metadata"]["name"])
    wait("a pod", lambda: pods(yard, "prepare"), timeout=90)
    wait("no complaint any more", lambda: not reached(yard, "a", "DataReady", reason)())


def test_a_webhook_that_is_down_is_named_and_the_job_goes_on_without_it(
    yard: Yard, operator: StartOperator, kubectl: Kubectl, namespace: str
) -> None:
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    webhook = {
        "name": "queue.example.com",
        # Nobody listens there.
        "clientConfig": {"url": "https://127.0.0.1:9/validate"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [rule], "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 1,
        "admissionReviewVersions": ["v1"],
    }  # fmt: skip
    config = {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace}, "webhooks": [webhook],
    }  # fmt: skip
    kubectl("create", "-f", "-", input=json.dumps(config))
    try:

        def blocked() -> bool:
            tried = yard("create", "job", "probe", "--image=i", "--dry-run=server", check=False)
            return "failed calling webhook" in tried.stderr

        wait("the webhook", blocked)
        operator("--no-leader-election").wait_for("cache filled")
        yard.create("a")
        wait("the refusal", reached(yard, "a", "Ready", "WebhookUnavailable"), timeout=SOON)
        message = (yard.condition("a", "Ready") or {})["message"]
        assert "queue.example.com" in message and "Job/a-prepare-1" in message
    finally:
        kubectl("delete", "validatingwebhookconfiguration", namespace)
    wait("the Job", lambda: yard("get", "job", "a-prepare-1", check=False).returncode == 0, timeout=90)
    wait("no complaint any more", lambda: not reached(yard, "a", "Ready", "WebhookUnavailable")())


def test_what_the_pods_name_and_the_cluster_lacks_is_named(yard: Yard, operator: StartOperator) -> None:
    operator("--no-leader-election").wait_for("cache filled")
    yard.create("a", trainer={"podTemplate": {"spec": {"priorityClassName": "urgent"}}})
    report(yard, "prepare", PREPARED)
    wait("the refusal", reached(yard, "a", "PodsReady", "PriorityClassNotFound"), timeout=SOON)
    assert "no PriorityClass with name urgent" in (yard.condition("a", "PodsReady") or {})["message"]


@pytest.mark.parametrize("name", ["aaa-mesh", "zzz-shipper"])
def test_a_container_that_a_policy_adds_neither_hides_ours_nor_holds_the_job_up(
    name: str, yard: Yard, operator: StartOperator, kubectl: Kubectl, namespace: str
) -> None:
    value = f'Object.spec.containers{{name: "{name}", image: "mesh"}}'
    patch = f'[JSONPatch{{op: "add", path: "/spec/containers/0", value: {value}}}]'
    spec = {
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}],
    }
    with policy(kubectl, namespace, "MutatingAdmissionPolicy", spec):
        wait("the policy", lambda: name in probe(kubectl, namespace)[1])
        process = operator("--no-leader-election")
        process.wait_for("cache filled")
        yard.create("a")
        report(yard, "prepare", PREPARED, mesh=name)
        assert [c["name"] for c in pods(yard, "prepare")[0]["spec"]["containers"]] == [name, "prepare"]
        wait("the data", reached(yard, "a", "DataReady", "Prepared"))
        report(yard, "train", TRAINED, mesh=name)
        wait("the end", reached(yard, "a", "Succeeded", "Succeeded"))
    told = json.loads(yard("get", "events", "--output=json").stdout)["items"]
    warnings = [e["message"] for e in told if e["reason"] == "ContainerRunsOn"]
    assert len(warnings) == 2, warnings
    assert all(name in w and "native sidecar" in w for w in warnings)
    assert pods(yard, "train"), "the others have their grace"
    wait("the pods' end", lambda: not pods(yard, "prepare") and not pods(yard, "train"), timeout=60)
    assert yard("get", "jobs", "--output=name").stdout == ""
    assert process.complaints() == []
