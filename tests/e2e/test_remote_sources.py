"""hf:// and https:// sources, from servers inside the cluster; what is not there is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Kube, ModelDeployment, TrainingJob, condition, restricted_pod
from tests.e2e.jobs import classification, reviews
from tests.e2e.serving import expose
from tests.e2e.storage import wait_gone

SERVER = Path(__file__).parent / "fixtures" / "hub_server.py"


@pytest.fixture(scope="module")
def web(kube: Kube, trainer_image: str) -> str:
    """A pod and a Service `web` that speak the hub's download API and serve files."""
    data = {"hub_server.py": SERVER.read_text(), "reviews.csv": reviews()}
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": data})
    command = ["python3", "/srv/hub_server.py", "/srv/reviews.csv"]
    pod = restricted_pod("web", trainer_image, command, config_maps={"/srv": "web"}, labels={"app": "web"})
    pod["spec"]["containers"][0]["readinessProbe"] = {
        "httpGet": {"path": "/healthz", "port": 8080},
        "periodSeconds": 1,
    }
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080}]},
    }  # fmt: skip
    kube.apply(service, pod)
    kube.run("wait", "pod/web", "--for=condition=Ready", "--timeout=90s", timeout=100)
    return f"http://web.{kube.namespace}:8080"


def remote(web: str, file: str = "reviews.csv", repository: str = "acme/tiny-bert") -> dict[str, Any]:
    """The tiny classifier with its model from the hub and its rows from the web."""
    spec = classification(steps=10, profile="hub")
    spec["model"] = {"uri": f"hf://{repository}", "revision": "main"}
    spec["data"]["sources"][0]["uri"] = f"{web}/files/{file}"
    return spec


def test_a_model_from_the_hub_and_rows_from_the_web_train_and_the_commit_is_frozen(
    kube: Kube, web: str
) -> None:
    job = TrainingJob(kube, "from-hub", remote(web)).create()
    status = job.wait_succeeded(240)
    assert status["data"]["modelRevision"] == "5f0c7e1d2b3a49586776859403a2b1c0d9e8f7a6"
    assert status["data"]["rowsIn"] == 400
    job.delete()


def test_a_model_of_the_hub_is_compressed_and_served_as_asked_and_its_commit_is_frozen(
    kube: Kube, web: str
) -> None:
    texts = ["the film was lovely and superb", "the meal was awful and dismal", "a book", "the old garden"]
    spec = {
        "profile": "hub",
        "model": {"uri": "hf://acme/tiny-bert", "revision": "main"},
        "task": "embeddings",
        "storage": {"claim": {"size": "1Gi", "accessModes": ["ReadWriteOnce"]}},
        "compression": {"method": "int8", "gate": {"minAgreement": 0.5}, "texts": texts},
        "server": {
            "maxLength": 16, "maxBatchTokens": 64, "maxBatchDelayMilliseconds": 1,
            "resources": {"limits": {"cpu": "1", "memory": "1500Mi"}, "requests": {"cpu": "100m", "memory": "300Mi"}},
        },
        "gateway": {"replicas": 1},
        "scaling": {"scaler": "none"},
    }  # fmt: skip
    own = "modelyard.dev/modeldeployment=vectors"
    with ModelDeployment(kube, "vectors", spec).serving() as deployment:
        status = deployment.status()
        assert status["model"]["revision"] == "5f0c7e1d2b3a49586776859403a2b1c0d9e8f7a6"
        assert status["compression"]["chosen"] == "int8"
        assert {variant["name"] for variant in status["compression"]["variants"]} == {"none", "int8"}
        endpoint = expose(kube, deployment)
        code, told = endpoint.call("/v1/embeddings", {"model": "vectors", "input": texts})
        assert code == 200, told
        vectors = [item["embedding"] for item in told["data"]]
        assert [len(vector) for vector in vectors] == [32] * len(texts)
        assert all(sum(x * x for x in vector) == pytest.approx(1, abs=1e-4) for vector in vectors)
        code, told = endpoint.call("/v1/embeddings", {"model": "vectors", "input": "film " * 40})
        assert (code, "16" in told["error"]["message"]) == (400, True), told
        assert [claim["metadata"]["name"] for claim in kube.find("pvc", own)] == ["vectors-models"]
    assert wait_gone(kube, "pvc", own, 60) == []


def test_a_file_that_is_not_there_gives_data_ready_false_with_its_address(kube: Kube, web: str) -> None:
    job = TrainingJob(kube, "no-file", remote(web, file="absent.csv")).create()
    status = job.wait_stalled("SourceNotFound", 90)
    assert condition(status, "DataReady")["status"] == "False"
    assert "absent.csv" in condition(status, "DataReady")["message"]
    job.delete()


def test_a_model_that_the_hub_does_not_have_gives_data_ready_false(kube: Kube, web: str) -> None:
    job = TrainingJob(kube, "no-model", remote(web, repository="acme/absent")).create()
    status = job.wait_stalled("ModelNotFound", 90)
    assert "acme/absent" in condition(status, "DataReady")["message"]
    job.delete()


def test_a_server_that_does_not_answer_gives_data_ready_false_and_is_tried_again(
    kube: Kube, web: str
) -> None:
    spec = remote("http://web-that-is-not-there:8080")
    spec["model"] = classification()["model"]
    spec["failurePolicy"] = {"backoff": {"initialSeconds": 1, "maxSeconds": 2}}
    job = TrainingJob(kube, "offline", spec).create()
    found = job.wait_reason("DataReady", "SourceUnreachable", 90)
    assert "web-that-is-not-there" in found["message"]
    again = job.wait("another try", lambda s: s.get("prepareAttempt", 0) >= 2, 90)
    assert condition(again, "Stalled") == {}
    job.delete()
