"""Fixtures of the end-to-end tests: one cluster, one operator and one namespace for the whole session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e import jobs, scraping
from tests.e2e.harness import Kube, TrainingJob
from tests.e2e.scraping import Prometheus
from tests.e2e.setup import (
    NAMESPACE,
    Cluster,
    OperatorDeployment,
    bring_up,
    fresh_namespace,
    provide_inputs,
)
from tests.e2e.storage import Reader, open_reader
from tests.unit.chart.rendering import render

TRAINED_CLAIM = "served-storage"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster with images and chart."""
    return bring_up()


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Kube:
    """kubectl in a fresh namespace that enforces the restricted Pod Security level."""
    found = cluster.kube(NAMESPACE)
    fresh_namespace(found)
    return found


@pytest.fixture(scope="session")
def trainer_image(cluster: Cluster) -> str:
    """Name of the loaded trainer image."""
    return cluster.images["trainer"]


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> OperatorDeployment:
    """The installed operator."""
    return OperatorDeployment(cluster)


@pytest.fixture(scope="module")
def prometheus(
    kube: Kube, operator: OperatorDeployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Prometheus, which scrapes the operator and whatever trains and serves from now on."""
    monitors = render({"metrics": {kind: {"enabled": True} for kind in ("serviceMonitor", "podMonitor")}})
    chosen = [found for found in monitors if found["kind"] in ("ServiceMonitor", "PodMonitor")]
    with scraping.run(kube, chosen, tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture(scope="session")
def reviews(kube: Kube) -> None:
    """What the jobs' specs train from."""
    kube.apply(jobs.inputs())


@pytest.fixture(scope="session")
def trained(kube: Kube, reviews: None) -> Iterator[dict[str, Any]]:
    """The status of job `served`, which goes with the first test that asks for it; its model stays in its claim."""
    spec = jobs.classification(60, storage={"claim": {"size": "1Gi", "retain": True}})
    yield TrainingJob(kube, "served", spec).create().wait_succeeded()
    kube.delete("pvc", TRAINED_CLAIM)


@pytest.fixture(scope="session")
def inputs(kube: Kube, cluster: Cluster) -> None:
    """The claim `inputs` with a real encoder and labelled tweets."""
    provide_inputs(cluster, kube)


@pytest.fixture(scope="module")
def read_run(kube: Kube, cluster: Cluster) -> Iterator[Callable[[TrainingJob], Reader]]:
    """Opens a job's run folder; its pods go at the end of the test."""
    opened: list[Reader] = []

    def read(job: TrainingJob) -> Reader:
        opened.append(open_reader(kube, job, cluster.images["trainer"]))
        return opened[-1]

    yield read
    for reader in opened:
        kube.delete("pod", reader.pod, "--grace-period=1")


@pytest.fixture(autouse=True)
def no_job_left(kube: Kube) -> Iterator[None]:
    """Whatever a failed test left running would take the processors from the tests after it."""
    yield
    kube.run("delete", "tj", "--all", timeout=180)


@pytest.fixture(scope="session", autouse=True)
def quiet_operator(operator: OperatorDeployment) -> Iterator[None]:
    """Fails the session if the operator logged an error that no test provoked."""
    yield
    errors = [line for line in operator.logs() if line.get("level") in ("ERROR", "CRITICAL")]
    assert not errors, errors[:5]
