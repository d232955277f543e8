"""Trains the model: applies the example, shows it live, and waits for its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from examples.demo import report
from examples.demo.shell import ROOT, DemoError, Kubectl

JOB = "sentiment"
MANIFEST = ROOT / "examples" / "sentiment" / "trainingjob.yaml"
# Seconds for all of the job on a slow machine; the job itself has no deadline.
PATIENCE = 1800


def train(kube: Kubectl) -> Mapping[str, Any]:
    """Trains anew; returns the status of the job, which has succeeded. Raises DemoError."""
    uid = start_job(kube)
    kube.watch(f"tj/{JOB}")
    status = wait_end(kube, uid, PATIENCE)
    if not any(c["type"] == "Succeeded" and c["status"] == "True" for c in status["conditions"]):
        raise DemoError(report.format_failure(JOB, kube.namespace, status, kube.kubeconfig))
    return status


def start_job(kube: Kubectl) -> str:
    """Applies the example; returns the job's uid. A job of an earlier run goes first: a TrainingJob trains once.

    So does its deployment, since servers would hold the storage that goes with the job.
    """
    for kind in ("modeldeployment", "trainingjob"):
        kube("delete", kind, JOB, "--ignore-not-found", "--timeout=120s")
    kube("apply", "--server-side", "-f", str(MANIFEST))
    return kube("get", "trainingjob", JOB, "-o", "jsonpath={.metadata.uid}")


def wait_end(kube: Kubectl, uid: str, patience: float) -> Mapping[str, Any]:
    """The status of that very job once it is final. Raises DemoError when it is gone or takes too long."""
    deadline = time.monotonic() + patience
    while True:
        found = kube.get("trainingjob", JOB)
        if found is None or found["metadata"]["uid"] != uid:
            # Another job of the same name is no result of this run.
            raise DemoError(
                f"the TrainingJob {JOB} was deleted or replaced while the demo waited for it; run it again"
            )
        status: Mapping[str, Any] = found.get("status") or {}
        true = {c["type"] for c in status.get("conditions") or [] if c["status"] == "True"}
        if true & {"Succeeded", "Stalled"}:
            return status
        if time.monotonic() > deadline:
            raise DemoError(report.format_failure(JOB, kube.namespace, status, kube.kubeconfig))
        time.sleep(2)
