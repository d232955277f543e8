"""A deployment on two nodes under a constant load, while one of them is drained, and while one is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.bench.serving.protocols import Case
from tests.e2e.harness import Kube, ModelDeployment, TrainingJob, is_ready
from tests.e2e.jobs import classification
from tests.e2e.serving import Endpoint, expose
from tests.twonodes.nodes import HOST, UNREACHABLE, Nodes

SIZE = {"limits": {"cpu": "1", "memory": "1500Mi"}, "requests": {"cpu": "100m", "memory": "300Mi"}}
# One on each node that takes pods, and another one soon for each that a node was lost with.
APART = {
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": HOST,
            "whenUnsatisfiable": "DoNotSchedule",
            "nodeTaintsPolicy": "Honor",
            "labelSelector": {"matchLabels": {"modelyard.dev/stage": "server"}},
        }
    ],
    "tolerations": [{**UNREACHABLE, "tolerationSeconds": 5}],
}


@pytest.fixture(scope="module")
def deployment(kube: Kube) -> Iterator[ModelDeployment]:
    """Two servers of a model that was trained here, and two gateways."""
    storage = {"claim": {"size": "1Gi", "retain": True}}
    TrainingJob(kube, "served", classification(60, storage=storage)).create().wait_succeeded()
    spec = {
        "model": {"trainingJobRef": {"name": "served"}},
        "replicas": 2,
        "scaling": {"scaler": "none"},
        "server": {"resources": SIZE, "podTemplate": {"spec": APART}},
    }
    with ModelDeployment(kube, "served", spec).serving() as found:
        yield found
    kube.delete("pvc", "served-storage")


def test_nodes_that_are_drained_one_after_the_other_cost_no_request(
    kube: Kube, nodes: Nodes, deployment: ModelDeployment
) -> None:
    endpoint, cases = ask(kube, deployment, nodes.names()[0])
    assert places(deployment, "server") == places(deployment, "gateway") == nodes.names()
    with endpoint.load(cases) as load:
        for name in nodes.names():  # one of them has the operator
            nodes.drain(name)
            assert name not in places(deployment, "server")
            wait_ready(deployment, "server")
            wait_ready(deployment, "gateway")
            nodes.uncordon(name)
    load.report.check()


def test_a_server_that_is_lost_with_its_node_costs_no_request(
    kube: Kube, nodes: Nodes, deployment: ModelDeployment
) -> None:
    lost = nodes.without_operator()
    (kept,) = set(nodes.names()) - {lost}
    # What callers have open to a gateway is lost with its node, whatever the gateway does.
    nodes.cordon(lost)
    move_away(kube, deployment, "gateway", lost)
    nodes.uncordon(lost)
    if lost not in places(deployment, "server"):
        move_away(kube, deployment, "server", kept, count=1)
    assert places(deployment, "gateway") == [kept, kept]
    assert places(deployment, "server") == sorted((kept, lost))

    endpoint, cases = ask(kube, deployment, kept)
    with endpoint.load(cases) as load:
        time.sleep(2)
        nodes.lose(lost)
        deployment.wait(
            "another server beside the one that is left",
            lambda status: status.get("readyReplicas") == 2 and places(deployment, "server") == [kept, kept],
            180,
        )
    load.report.check()


def ask(kube: Kube, deployment: ModelDeployment, node: str) -> tuple[Endpoint, list[Case]]:
    """The gateways by that node's address, and requests with their answers."""
    endpoint = expose(kube, deployment, node)
    return endpoint, endpoint.learn("the film was lovely and superb", "the meal was awful and dismal", "a")


def places(deployment: ModelDeployment, stage: str) -> list[str]:
    """The nodes of those pods, in order."""
    return sorted(pod["spec"].get("nodeName", "") for pod in deployment.living(stage))


def wait_ready(deployment: ModelDeployment, stage: str, count: int = 2) -> None:
    """Until so many pods of a stage are ready."""

    deployment.wait(
        f"{count} pods of {stage}", lambda _: sum(map(is_ready, deployment.living(stage))) == count, 120
    )


def move_away(kube: Kube, deployment: ModelDeployment, stage: str, node: str, count: int = 2) -> None:
    """Deletes pods of a stage on a node, `count` at most, and waits for others."""
    there = [p["metadata"]["name"] for p in deployment.living(stage) if p["spec"].get("nodeName") == node]
    for name in there[:count]:
        kube.run("delete", "pod", name)
        wait_ready(deployment, stage)
