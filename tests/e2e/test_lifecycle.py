"""Suspension, time to live, and what deletion leaves."""

from __future__ import annotations

from typing import Any

from tests.e2e.harness import Kube, TrainingJob, condition, is_true
from tests.e2e.jobs import classification
from tests.e2e.storage import wait_gone

OURS = "app.kubernetes.io/managed-by=modelyard"


def test_a_suspended_job_frees_its_pods_and_goes_on_where_it_was(kube: Kube, reviews: None) -> None:
    job = TrainingJob(kube, "paused", classification(steps=300, nodes=2)).create()
    job.wait_step(10)
    job.patch({"suspend": True})
    status = job.wait("suspension", lambda s: is_true(s, "Suspended"), 90)
    assert (
        wait_gone(kube, "pods", f"modelyard.dev/trainingjob={job.name},modelyard.dev/stage=train", 30) == []
    )
    assert condition(status, "Ready")["reason"] == "Suspended"
    assert not condition(status, "Reconciling")
    assert not condition(status, "Stalled")
    job.patch({"suspend": False})
    status = job.wait_succeeded(240)
    first, second = status["attempts"][-2:]
    assert first["cause"] == "Suspended"
    assert second["fromStep"] >= 10
    job.delete()


def test_deletion_and_time_to_live_leave_only_the_storage_that_was_asked_to_stay(
    kube: Kube, reviews: None
) -> None:
    retained = {"claim": {"size": "1Gi", "retain": True}}
    kept = TrainingJob(kube, "kept", classification(steps=5, storage=retained)).create()
    short: dict[str, Any] = {"storage": {"claim": {"size": "1Gi"}}, "ttlSecondsAfterFinished": 3}
    gone = TrainingJob(kube, "gone", classification(steps=5, **short)).create()
    gone.wait("deletion", lambda s: not s and kube.get("tj", gone.name) is None, 240)
    kept.wait_succeeded()
    kept.delete()
    for resource in ("jobs", "pods", "services"):
        assert wait_gone(kube, resource, OURS, 60) == [], resource
    assert kube.get("pvc", "kept-storage") is not None
    assert "gone-storage" not in wait_gone(kube, "pvc", "modelyard.dev/trainingjob=gone", 60)
    kube.delete("pvc", "kept-storage")
