"""A trained model behind its gateways: what callers get, whatever is changed, killed or scaled meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bench.serving.protocols import Case
from tests.e2e.harness import Kube, ModelDeployment, TrainingJob, condition, is_true
from tests.e2e.jobs import classification
from tests.e2e.serving import Endpoint, expose, infer
from tests.e2e.setup import OperatorDeployment

GOOD, BAD = "the film was lovely and superb", "the meal was awful and dismal"
SMALL = {
    "limits": {"cpu": "1", "memory": "1500Mi"},
    "requests": {"cpu": "100m", "memory": "300Mi"},
}


@pytest.fixture(scope="module")
def trained(kube: Kube, reviews: None) -> dict[str, Any]:
    """The status of a job whose model is served here; its claim outlives it."""
    spec = classification(60, storage={"claim": {"size": "1Gi", "retain": True}})
    job = TrainingJob(kube, "served", spec).create()
    return job.wait_succeeded()


@pytest.fixture(scope="module")
def deployment(kube: Kube, trained: dict[str, Any]) -> Iterator[ModelDeployment]:
    """Two servers of that model."""
    spec = {
        "model": {"trainingJobRef": {"name": "served"}},
        "replicas": 2,
        "scaling": {"scaler": "none"},
        "server": {"resources": SMALL},
    }
    found = ModelDeployment(kube, "served", spec).create()
    found.wait_ready()
    yield found
    found.delete()
    kube.delete("pvc", "served-storage")


@pytest.fixture(scope="module")
def endpoint(kube: Kube, deployment: ModelDeployment) -> Endpoint:
    """Its gateways."""
    return expose(kube, deployment)


@pytest.fixture(scope="module")
def cases(endpoint: Endpoint) -> list[Case]:
    """Requests and their answers."""
    return endpoint.learn(GOOD, BAD, "a book", "the old garden was pleasant")


def test_a_trained_model_answers_by_its_deployments_name(
    deployment: ModelDeployment, endpoint: Endpoint, trained: dict[str, Any]
) -> None:
    status = deployment.status()
    assert status["url"] == f"http://{deployment.name}.{deployment.kube.namespace}.svc"
    assert status["model"]["digest"] == trained["model"]["digest"]
    assert endpoint.classify(GOOD, BAD) == ["good", "bad"]
    code, models = endpoint.call("/v1/models")
    assert code == 200
    assert [model["id"] for model in models["data"]] == [deployment.name]
    (chosen,) = status["compression"]["variants"]
    assert chosen["name"] == "none"
    assert chosen["metrics"]["accuracy"] == pytest.approx(
        trained["model"]["evaluation"]["validation"]["eval_accuracy"], abs=1e-6
    )


def test_what_is_wrong_with_a_request_is_told_in_the_protocols_form(endpoint: Endpoint) -> None:
    assert endpoint.call("/v2/models/other/infer", infer("a"))[0] == 404
    code, said = endpoint.call(f"/v2/models/{endpoint.model}/infer", {"inputs": []})
    assert (code, type(said["error"])) == (400, str)
    code, said = endpoint.call("/v1/chat/completions", {"model": endpoint.model, "messages": []})
    assert code in (400, 404)
    assert said["error"]["message"]


def test_pods_that_are_deleted_killed_or_evicted_cost_no_request(
    kube: Kube,
    deployment: ModelDeployment,
    endpoint: Endpoint,
    cases: list[Case],
    operator: OperatorDeployment,
) -> None:
    with endpoint.load(cases) as load:
        operator.kill()
        try:
            first, second = (pod["metadata"]["name"] for pod in deployment.servers())
            kube.run("delete", "pod", first, "--wait=false")
            wait_servers(deployment, 2, without=first)
            kube.run("delete", "pod", second, "--grace-period=0", "--force", "--wait=false")
            wait_servers(deployment, 2, without=second)
            gateway = deployment.pods("gateway")[0]["metadata"]["name"]
            kube.run("delete", "pod", gateway, "--wait=false")
            kube.run("-n", "kube-system", "rollout", "restart", "deployment/coredns", check=False)
            kube.run("rollout", "status", f"deployment/{deployment.name}-gateway", "--timeout=60s")
        finally:
            operator.start()
        evict(kube, deployment.servers()[0]["metadata"]["name"])
        wait_servers(deployment, 2)
    load.report.check()


def test_a_new_revision_takes_over_without_a_failed_request(
    deployment: ModelDeployment, endpoint: Endpoint, cases: list[Case]
) -> None:
    (before,) = [r["name"] for r in deployment.status()["revisions"] if r["state"] == "Serving"]
    with endpoint.load(cases) as load:
        deployment.patch({"server": {"maxBatchDelayMilliseconds": 3}})
        deployment.wait_ready()
        status = deployment.wait("the end of the old one", lambda s: _states(s).get(before) == "Retired", 60)
        size = {"limits": {"cpu": "1", "memory": "300Mi"}, "requests": {"cpu": "50m", "memory": "100Mi"}}
        deployment.patch({"gateway": {"resources": size}})
        deployment.kube.run("rollout", "status", f"deployment/{deployment.name}-gateway", "--timeout=90s")
    load.report.check()
    assert list(_states(status).values()).count("Serving") == 1


def test_from_zero_the_first_request_waits_for_a_server_and_none_fails(
    kube: Kube, deployment: ModelDeployment, endpoint: Endpoint, cases: list[Case]
) -> None:
    scaling = {"scaler": "builtin", "minReplicas": 0, "maxReplicas": 2, "idleSeconds": 5}
    deployment.patch({"scaling": {**scaling, "scaleDownDelaySeconds": 0, "target": 1}})
    deployment.wait("zero", lambda s: not s.get("replicas") and is_true(s, "Ready"), 180)
    assert condition(deployment.status(), "ServersReady")["reason"] == "ScaledToZero"
    assert endpoint.call("/v1/models")[1]["data"][0]["id"] == deployment.name  # it is listed all the same
    assert endpoint.classify(GOOD) == ["good"]
    with endpoint.load(cases, rate=60.0) as load:
        deployment.wait("two servers", lambda s: s.get("readyReplicas") == 2, 120)
    load.report.check()
    assert max(r["replicas"] for r in deployment.status()["revisions"]) <= 2
    deployment.patch({"scaling": {"scaler": "none"}})
    deployment.wait("two servers again", lambda s: s.get("replicas") == 2, 60)


def test_the_scale_subresource_says_what_is_there_and_sets_it(
    kube: Kube, deployment: ModelDeployment
) -> None:
    kube.run("scale", f"modeldeployment/{deployment.name}", "--replicas=1")
    deployment.wait("one server", lambda s: s.get("readyReplicas") == 1 and s.get("replicas") == 1, 60)
    path = (
        f"/apis/modelyard.dev/v1alpha1/namespaces/{kube.namespace}/modeldeployments/{deployment.name}/scale"
    )
    scale = json.loads(kube.run("get", "--raw", path))
    assert scale["spec"]["replicas"] == scale["status"]["replicas"] == 1
    selected = kube.find("pods", scale["status"]["selector"])
    assert {pod["metadata"]["name"] for pod in deployment.servers()} <= {
        p["metadata"]["name"] for p in selected
    }


def _states(status: dict[str, Any]) -> dict[str, str]:
    return {revision["name"]: revision["state"] for revision in status["revisions"]}


def wait_servers(deployment: ModelDeployment, count: int, without: str = "") -> None:
    """Until so many servers are ready, none of them of that name."""

    def there(_: dict[str, Any]) -> bool:
        ready = [
            pod["metadata"]["name"]
            for pod in deployment.servers()
            if any(
                c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])
            )
        ]
        return len(ready) >= count and without not in ready

    deployment.wait(f"{count} servers", there, 90)


def evict(kube: Kube, pod: str) -> None:
    """As a drain of its node does it: by the budget's leave."""
    body = {
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": kube.namespace}
    }  # fmt: skip
    path = f"/api/v1/namespaces/{kube.namespace}/pods/{pod}/eviction"
    kube.run("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
