"""What is wrong is named within 30 seconds of being visible, with what to do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.harness import Kube, TrainingJob, condition, is_true
from tests.e2e.jobs import SMALL_POD, classification
from tests.e2e.storage import Reader

SOON = 30.0


def altered(change: Callable[[dict[str, Any]], None], **kwargs: Any) -> dict[str, Any]:
    """The tiny classifier with one mistake in it."""
    spec = copy.deepcopy(classification(**kwargs))
    change(spec)
    return spec


def test_a_wrong_column_is_named_with_the_columns_there_are(kube: Kube, reviews: None) -> None:
    spec = altered(lambda s: s["data"]["sources"][0]["columns"].update(text="bodi"))
    job = TrainingJob(kube, "wrong-column", spec).create()
    status = job.wait_stalled("ColumnNotFound", 120)
    stalled = condition(status, "Stalled")
    ended = kube.pods(job.name, "prepare")[0]["status"]["containerStatuses"][0]["state"]["terminated"][
        "finishedAt"
    ]
    lag = datetime.fromisoformat(stalled["lastTransitionTime"]) - datetime.fromisoformat(ended)
    assert lag.total_seconds() <= SOON
    message = stalled["message"]
    assert "bodi" in message
    assert "body" in message
    assert condition(status, "DataReady")["status"] == "False"
    job.delete()


def test_an_unknown_training_argument_gets_the_nearest_name_before_any_pod_starts(
    kube: Kube, reviews: None
) -> None:
    spec = altered(lambda s: s["training"]["args"].update(label_smoothing=0.1))
    job = TrainingJob(kube, "wrong-argument", spec).create()
    status = job.wait_stalled("UnknownArgument", 10)
    assert "label_smoothing_factor" in condition(status, "Stalled")["message"]
    assert not kube.find("pods", f"modelyard.dev/trainingjob={job.name}")
    job.delete()


def test_a_missing_claim_is_named(kube: Kube) -> None:
    spec = altered(lambda s: s["data"]["sources"][0].update(uri="pvc://nowhere/reviews.csv"))
    job = TrainingJob(kube, "missing-claim", spec).create()
    found = job.wait_reason("DataReady", "ClaimNotFound", SOON)
    assert "nowhere" in found["message"]
    assert not is_true(job.status(), "Stalled")
    job.delete()


def test_an_image_that_can_not_be_pulled_is_named(kube: Kube, reviews: None) -> None:
    spec = altered(lambda s: s["trainer"].update(image="localhost/not-there:1"))
    job = TrainingJob(kube, "no-image", spec).create()
    found = job.wait_reason("PodsReady", "ImagePullFailed", 60)
    assert "localhost/not-there:1" in found["message"]
    job.delete()


def test_a_request_that_no_node_can_hold_is_named(kube: Kube, reviews: None) -> None:
    spec = altered(
        lambda s: s["trainer"].update(resourcesPerNode={"limits": {"cpu": "500", "memory": "3Gi"}})
    )
    job = TrainingJob(kube, "too-large", spec).create()
    found = job.wait_reason("PodsReady", "Unschedulable", 60)
    assert "cpu" in found["message"].lower()
    job.delete()


def test_a_pod_killed_for_its_memory_is_named(kube: Kube, reviews: None) -> None:
    small = {
        **SMALL_POD,
        "limits": {"cpu": "1", "memory": "200Mi"},
        "requests": {"cpu": "200m", "memory": "200Mi"},
    }
    spec = altered(lambda s: s["trainer"].update(resourcesPerNode=small))
    spec["failurePolicy"] = {"maxRestarts": 0}
    job = TrainingJob(kube, "out-of-memory", spec).create()
    status = job.wait_stalled("HostOutOfMemory", 120)
    assert "memory" in condition(status, "Stalled")["message"]
    job.delete()


@pytest.mark.parametrize("bound", [{"metric": "eval_accuracy", "min": 1.1}])
def test_a_missed_gate_stalls_the_job_and_keeps_the_model_marked(
    kube: Kube, reviews: None, read_run: Callable[[TrainingJob], Reader], bound: dict[str, Any]
) -> None:
    job = TrainingJob(kube, "gate-missed", classification(steps=20, gate=bound)).create()
    status = job.wait_stalled("GateFailed")
    assert condition(status, "GatePassed")["status"] == "False"
    assert status["gate"]["passed"] is False
    assert 0 <= status["gate"]["value"] <= 1
    reader = read_run(job)
    assert "model.safetensors" in reader.files("model")
    assert '"passed": false' in reader.read("model/modelyard.json")
    job.delete()
