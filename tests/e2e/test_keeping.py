"""Storage that doesn't come or doesn't stay, what others delete, and phases that say what is the case."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from tests.e2e.harness import Kube, TrainingJob, condition, is_true
from tests.e2e.interruptions import kill_ranks
from tests.e2e.jobs import classification
from tests.e2e.test_user_image import own_code

SOON = 15.0


def lag(status: dict[str, Any], job: dict[str, Any], kind: str) -> float:
    """Seconds from the job's creation to the condition."""
    since = datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    return (datetime.fromisoformat(condition(status, kind)["lastTransitionTime"]) - since).total_seconds()


def test_a_storage_class_that_does_not_exist_is_named_within_15_seconds(kube: Kube, reviews: None) -> None:
    storage = {"claim": {"size": "1Gi", "storageClassName": "no-such-class"}}
    job = TrainingJob(kube, "no-class", classification(storage=storage)).create()
    started = time.monotonic()
    found = job.wait_reason("DataReady", "StorageClassNotFound", SOON)
    assert time.monotonic() - started < SOON
    assert "no-such-class" in found["message"]
    assert condition(job.status(), "PodsReady")["reason"] == "StorageClassNotFound"
    assert not is_true(job.status(), "Stalled")
    job.delete()


def test_a_claim_deleted_under_a_running_job_is_told_and_the_job_does_not_succeed(
    kube: Kube, reviews: None
) -> None:
    job = TrainingJob(kube, "claim-gone", classification(steps=250)).create()
    job.wait("Training", lambda s: s.get("phase") == "Training", 120)
    kube.run("delete", "pvc", "claim-gone-storage", "--wait=false")
    found = job.wait_reason("Ready", "StorageTerminating", SOON)
    assert "kubectl patch pv" in found["message"]
    status = job.status()
    assert condition(status, "CheckpointSafe")["reason"] == "StorageTerminating"
    assert is_true(status, "Progressing")
    status = job.wait_stalled("StorageTerminating", 240)
    assert "model" not in status
    assert status["attempts"][-1]["cause"] == "Finished"
    assert len(status["attempts"]) == 1
    job.delete()


def test_a_rank_that_restarts_finds_its_master_after_others_deleted_the_service(
    kube: Kube, reviews: None
) -> None:
    job = TrainingJob(kube, "no-service", classification(steps=400, nodes=2)).create()
    job.wait_step(10)
    kube.delete("service", f"{job.name}-train")
    deadline = time.monotonic() + SOON
    while kube.get("service", f"{job.name}-train") is None:
        assert time.monotonic() < deadline, "the Service did not come back"
        time.sleep(0.2)
    kill_ranks(kube, job.name)
    status = job.wait_succeeded(300)
    assert status["progress"]["step"] == 400
    job.delete()


def program(image: str, code: str) -> dict[str, Any]:
    spec = own_code(image, ["python3", "-c", code])
    del spec["trainer"]["podTemplate"]
    return spec


def test_a_program_that_reports_nothing_trains_and_a_suspended_one_is_suspending(
    kube: Kube, trainer_image: str
) -> None:
    # Leaves eight seconds after it was asked to. (A sleep goes on after a handler that only returns.)
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(8), os._exit(143)))\n"
        "time.sleep(600)"
    )
    spec = program(trainer_image, code)
    job = TrainingJob(kube, "quiet", spec).create()
    status = job.wait("Training", lambda s: s.get("phase") == "Training", 90)
    assert is_true(status, "Progressing")
    assert is_true(status, "PodsReady")
    assert "/v1/report" in condition(status, "Progressing")["message"]
    job.patch({"suspend": True})
    job.wait("Suspending", lambda s: s.get("phase") == "Suspending", 10)
    job.wait("Suspended", lambda s: s.get("phase") == "Suspended", 120)
    job.delete()


def test_an_error_that_repeats_at_the_same_step_is_not_tried_a_third_time(
    kube: Kube, trainer_image: str
) -> None:
    code = "raise ValueError('no such optimizer')"
    spec = program(trainer_image, code)
    spec["failurePolicy"] = {"maxRestarts": 5, "backoff": {"initialSeconds": 1}}
    job = TrainingJob(kube, "repeats", spec).create()
    status = job.wait_stalled("UserCodeError", 120)
    assert len(status["attempts"]) == 2
    assert "no such optimizer" in condition(status, "Stalled")["message"]
    job.delete()
