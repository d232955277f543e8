"""Servers that others scale: a real KEDA out of a real Prometheus, and Kubernetes' own autoscaler by real figures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.serving.protocols import Case
from tests.e2e.conftest import prometheus, reviews, trainer_image
from tests.e2e.harness import Kube, ModelDeployment, TrainingJob, condition, is_true
from tests.e2e.jobs import classification
from tests.e2e.scraping import Prometheus
from tests.e2e.serving import Endpoint, expose
from tests.e2e.setup import PROFILES, Cluster, set_profiles
from tests.e2e.sleepy import sleepy_spec
from tests.soak.autoscalers import keda, metrics_server

__all__ = ["prometheus", "reviews", "trainer_image"]
pytestmark = pytest.mark.timeout(2400)

PROFILE = "watched"


@pytest.fixture(scope="module")
def model(kube: Kube, reviews: None) -> Iterator[str]:
    """The URI of one that was trained here."""
    storage = {"claim": {"size": "1Gi", "retain": True}}
    status = TrainingJob(kube, "scaled", classification(20, storage=storage)).create().wait_succeeded()
    yield status["model"]["uri"]
    kube.delete("tj", "scaled")
    kube.delete("pvc", "scaled-storage")


@pytest.fixture
def profile(cluster: Cluster, prometheus: Prometheus) -> str:
    """Its name; it says where that Prometheus is."""
    set_profiles(cluster.tools, {**PROFILES, PROFILE: {"prometheus": prometheus.address}})
    return PROFILE


@contextlib.contextmanager
def serving(deployment: ModelDeployment) -> Iterator[tuple[Endpoint, list[Case]]]:
    """Its gateways, and requests with their answers; it is made, and deleted at the end of the block."""
    with deployment.serving():
        endpoint = expose(deployment.kube, deployment)
        yield endpoint, endpoint.learn("a")


def wait_size(deployment: ModelDeployment, count: int, seconds: float) -> None:
    """Until the status and the pods say so many servers."""

    def is_there(status: dict[str, Any]) -> bool:
        return status.get("replicas") == count == len(deployment.servers())

    deployment.wait(f"{count} servers", is_there, seconds)


def test_keda_scales_from_zero_to_the_bound_and_back_and_gives_way(
    kube: Kube, model: str, trainer_image: str, profile: str, tmp_path: Path
) -> None:
    scaling = {
        "scaler": "keda", "minReplicas": 0, "maxReplicas": 3, "target": 2, "idleSeconds": 10,
        "scaleDownDelaySeconds": 0,
    }  # fmt: skip
    spec = sleepy_spec(trainer_image, model, "scaled-storage", profile=profile, scaling=scaling)
    deployment = ModelDeployment(kube, "watched", spec)
    # With nobody asking KEDA takes the first server as soon as it was ready once.
    with keda.running(kube, tmp_path), serving(deployment) as (endpoint, cases):

        def is_taken(_: dict[str, Any]) -> bool:
            scaled = kube.get("scaledobject", deployment.name)
            return scaled is not None and is_true(scaled.get("status", {}), "Ready")

        deployment.wait(
            "KEDA's word", is_taken, 60
        )  # it may look before it has heard of the servers' Deployment
        assert condition(deployment.status(), "ScalingReady")["reason"] == "Delegated"

        wait_size(deployment, 0, 240)
        assert is_true(deployment.status(), "Ready")
        assert endpoint.classify("a") == ["late"]  # a look of Prometheus', one of KEDA's, and a start
        with endpoint.load(cases, rate=8.0) as load:
            wait_size(deployment, 3, 240)
            deployment.wait("readiness", lambda s: s.get("readyReplicas") == 3, 60)
        load.report.check()
        wait_size(deployment, 0, 300)

        deployment.patch({"scaling": {"scaler": "builtin"}})
        deployment.wait("no ScaledObject", lambda _: not kube.find("scaledobjects,hpa"), 120)
        assert endpoint.classify("a") == ["late"]
        reason = condition(deployment.wait_ready(), "ScalingReady")["reason"]
        assert reason == "Following", deployment.describe()
    # Without KEDA in the cluster the same is refused in words.
    deployment.spec = {**spec, "scaling": scaling}
    deployment.create()
    try:
        told = deployment.wait_reason("ScalingReady", "NotServed", 120)
        assert "Install KEDA" in told["message"]
    finally:
        deployment.delete()


def test_a_horizontal_pod_autoscaler_follows_the_servers_processors(
    kube: Kube, model: str, trainer_image: str, tmp_path: Path
) -> None:
    scaling = {"scaler": "hpa", "minReplicas": 1, "maxReplicas": 2, "scaleDownDelaySeconds": 0}
    spec = sleepy_spec(trainer_image, model, "scaled-storage", work=0.02, scaling=scaling)
    deployment = ModelDeployment(kube, "worked", spec)
    with metrics_server.running(kube, tmp_path), serving(deployment) as (endpoint, cases):
        deployment.wait_reason("ScalingReady", "Delegated", 120)
        with endpoint.load(cases, rate=4.0) as load:
            wait_size(deployment, 2, 180)
            # Both are enough for the load, and stay: the autoscaler looks every 15 s.
            until = time.monotonic() + 20
            while time.monotonic() < until:
                assert len(deployment.servers()) == 2
        load.report.check()
        wait_size(deployment, 1, 240)
