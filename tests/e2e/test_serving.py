"""A trained model behind its gateways: what callers get, whatever is changed, killed or scaled meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from modelyard.workloads.times import parse_time

from tests.bench.serving.protocols import Case
from tests.dashboards import choose
from tests.e2e.boards import check_board
from tests.e2e.conftest import TRAINED_CLAIM
from tests.e2e.harness import Kube, ModelDeployment, condition, is_ready, is_true
from tests.e2e.hostile import SlowCallers
from tests.e2e.scraping import INTERVAL, Prometheus
from tests.e2e.serving import Endpoint, expose, infer
from tests.e2e.setup import OperatorDeployment
from tests.e2e.sleepy import sleepy_spec

GOOD, BAD = "the film was lovely and superb", "the meal was awful and dismal"
SMALL = {
    "limits": {"cpu": "1", "memory": "1500Mi"},
    "requests": {"cpu": "100m", "memory": "300Mi"},
}
# A file system in memory counts as the container's own.
WITH_RAM = {
    "spec": {
        "volumes": [{"name": "ram", "emptyDir": {"medium": "Memory"}}],
        "containers": [{"name": "server", "volumeMounts": [{"name": "ram", "mountPath": "/ram"}]}],
    }
}
FILL = "with open('/ram/full', 'wb') as file:\n while True: file.write(bytes(1 << 20))"


@pytest.fixture(scope="module")
def deployment(kube: Kube, trained: dict[str, Any]) -> Iterator[ModelDeployment]:
    """Two servers of that model."""
    spec = {
        "model": {"trainingJobRef": {"name": "served"}},
        "replicas": 2,
        "scaling": {"scaler": "none"},
        "server": {"resources": SMALL, "podTemplate": WITH_RAM},
    }
    with ModelDeployment(kube, "served", spec).serving() as found:
        yield found


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


def test_pods_that_are_deleted_killed_or_drained_cost_no_request(
    kube: Kube,
    deployment: ModelDeployment,
    endpoint: Endpoint,
    cases: list[Case],
    operator: OperatorDeployment,
) -> None:
    with SlowCallers(endpoint, 200) as slow, endpoint.load(cases) as load:
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
        drain(kube, deployment)
        wait_servers(deployment, 2)
    load.report.check()
    assert slow.ended > 0


def test_a_server_that_is_killed_for_its_memory_costs_no_request_and_is_named(
    kube: Kube, deployment: ModelDeployment, endpoint: Endpoint, cases: list[Case]
) -> None:
    with endpoint.load(cases) as load:
        name = deployment.servers()[0]["metadata"]["name"]
        # What writes is small: the kernel kills the largest process, which is the server.
        kube.run("exec", name, "--", "python3", "-c", FILL, check=False)

        def is_told(_: dict[str, Any]) -> bool:
            pod = kube.get("pod", name)
            return pod is not None and last_end(pod) == "OOMKilled"

        deployment.wait("the kernel's kill", is_told, 60)
        # Its memory is full of what was written, so that it would be killed again and again.
        kube.run("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
        wait_servers(deployment, 2, without=name)
    load.report.check()


def test_a_new_revision_takes_over_without_a_failed_request(
    deployment: ModelDeployment, endpoint: Endpoint, cases: list[Case]
) -> None:
    (before,) = [r["name"] for r in deployment.status()["revisions"] if r["state"] == "Serving"]
    with endpoint.load(cases) as load:
        # Of the same package: what the user says of batches would be measured first.
        deployment.patch({"server": {"podTemplate": {"metadata": {"annotations": {"team": "care"}}}}})
        deployment.wait_ready()
        status = deployment.wait("the end of the old one", lambda s: _states(s).get(before) == "Retired", 60)
        size = {"limits": {"cpu": "1", "memory": "300Mi"}, "requests": {"cpu": "50m", "memory": "100Mi"}}
        deployment.patch({"gateway": {"resources": size}})
        deployment.kube.run("rollout", "status", f"deployment/{deployment.name}-gateway", "--timeout=90s")
    load.report.check()
    assert list(_states(status).values()).count("Serving") == 1


@pytest.fixture
def sleepy(kube: Kube, trained: dict[str, Any], trainer_image: str) -> Iterator[ModelDeployment]:
    """Behind gateways of its own; whatever becomes of the test, its servers hold no claim afterwards."""
    scaling = {"minReplicas": 0, "maxReplicas": 3, "target": 2, "idleSeconds": 5, "scaleDownDelaySeconds": 0}
    spec = sleepy_spec(trainer_image, trained["model"]["uri"], TRAINED_CLAIM, scaling=scaling)
    found = ModelDeployment(kube, "sleepy", spec).create()
    yield found
    found.delete()


def test_a_server_of_the_users_own_follows_the_load_from_zero_and_back_and_no_request_fails(
    kube: Kube, sleepy: ModelDeployment
) -> None:
    sleepy.wait_ready()
    endpoint = expose(kube, sleepy)
    cases = endpoint.learn("a")

    def is_at_zero(status: dict[str, Any]) -> bool:
        return status.get("replicas") == 0 and is_true(status, "Ready") and not sleepy.servers()

    sleepy.wait("zero", is_at_zero, 180)
    assert condition(sleepy.status(), "ServersReady")["reason"] == "ScaledToZero"
    assert endpoint.call("/v1/models")[1]["data"][0]["id"] == "sleepy"  # it is listed all the same
    asked = time.time()
    assert endpoint.classify("a") == ["late"]
    answered = time.time() - asked
    (server,) = sleepy.servers()
    ready = next(c["lastTransitionTime"] for c in server["status"]["conditions"] if c["type"] == "Ready")
    # A second for the answer itself, one for what Kubernetes' times leave out, one for all that is ours, and two for a
    # machine that has other things to do.
    assert answered <= parse_time(ready).timestamp() - asked + 5

    sizes: list[int] = []
    with endpoint.load(cases, rate=8.0) as load:
        until = time.time() + 120
        while len(sizes) < 5 or sleepy.status().get("readyReplicas") != 3:
            assert time.time() < until, sleepy.describe()
            sizes.append(len(sleepy.servers()))
        sizes += [len(sleepy.servers()) for _ in range(20)]
    load.report.check()
    assert max(sizes) == 3
    sleepy.wait("zero again", is_at_zero, 240)


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


# What the dashboard's panels show nothing of, where no language model is served.
_EMPTY = {
    "Deployments that need a look": "nothing goes wrong",
    "Time to the first token": "of generation",
    "Time between tokens": "of generation",
    "Time per token of an answer": "of generation",
    "Tokens made": "of generation",
    "Key-value cache": "of generation",
}


def test_every_panel_of_the_dashboard_shows_something_of_requests_to_a_deployment(
    kube: Kube, deployment: ModelDeployment, endpoint: Endpoint, prometheus: Prometheus
) -> None:
    deployment.patch(
        {"scaling": {"scaler": "builtin", "maxReplicas": 2}, "traffic": {"cache": {"maxEntries": 100}}}
    )
    deployment.wait_ready()
    kube.run("rollout", "status", f"deployment/{deployment.name}-gateway", "--timeout=90s")
    # New gateways have told nothing yet, and the panel of those that need a look is right to show that.
    deployment.wait("a load", lambda status: is_true(status, "ScalingReady"), 60)
    time.sleep(2 * INTERVAL)
    start, number = time.time(), 0
    while time.time() < start + 30:  # many scrapes
        endpoint.classify(GOOD)
        endpoint.classify(f"{GOOD} {number}")
        number += 1
        time.sleep(0.1)
    chosen = choose("deployments", kube.namespace, deployment.name)
    check_board(prometheus, "deployments", chosen, _EMPTY, start, time.time())


def _states(status: dict[str, Any]) -> dict[str, str]:
    return {revision["name"]: revision["state"] for revision in status["revisions"]}


def wait_servers(deployment: ModelDeployment, count: int, without: str = "") -> None:
    """Until so many servers are ready, none of them of that name."""

    def there(_: dict[str, Any]) -> bool:
        ready = [pod["metadata"]["name"] for pod in deployment.servers() if is_ready(pod)]
        return len(ready) >= count and without not in ready

    deployment.wait(f"{count} servers", there, 90)


def last_end(pod: dict[str, Any]) -> str:
    """Why its container ended, now or before; empty where it never did."""
    (container,) = pod["status"]["containerStatuses"]
    ends = [container[state].get("terminated", {}) for state in ("state", "lastState")]
    return next((end["reason"] for end in ends if end), "")


def drain(kube: Kube, deployment: ModelDeployment, seconds: float = 120) -> None:
    """Takes each server's pod as a drain of its node does: when the budget gives its leave."""
    left = [pod["metadata"]["name"] for pod in deployment.servers()]
    refused, until = 0, time.monotonic() + seconds
    while left:
        assert time.monotonic() < until, f"not drained in {seconds:.0f} s: {left}\n{deployment.describe()}"
        if evict(kube, left[0]):
            left.pop(0)
        else:
            refused += 1
            time.sleep(0.5)
    assert refused, "the budget let all servers go at once"


def evict(kube: Kube, pod: str) -> bool:
    """Whether the budget allowed it."""
    body = {
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": kube.namespace}
    }  # fmt: skip
    path = f"/api/v1/namespaces/{kube.namespace}/pods/{pod}/eviction"
    try:
        kube.run("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    except AssertionError as error:
        if "disruption budget" not in str(error):
            raise
        return False
    return True
