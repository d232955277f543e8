"""Which model is to be served: what the spec names, as far as it is there by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.api.deploymentstatus import ModelDeploymentStatus
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.contract import layout
from modelyard.engine.plan import Key, Manifest
from modelyard.workloads.problem import Problem

TRAINING_JOB = "TrainingJob"


@dataclass(frozen=True, slots=True)
class Source:
    """A model that can be read. `digest` is unknown of one that nobody has read yet.

    `storage` is the storage root of the model's TrainingJob, `dataset` its prepared data; `task` is what it was told.
    A model from elsewhere says its task in its folder, if at all.
    """

    uri: str
    digest: str | None = None
    revision: str | None = None
    task: str | None = None
    job: str | None = None
    storage: str | None = None
    dataset: str | None = None


def find_references(namespace: str, spec: ModelDeploymentSpec) -> frozenset[Key]:
    """The resources that the model hangs on."""
    reference = spec.model.training_job_ref
    return frozenset() if reference is None else frozenset({Key(TRAINING_JOB, namespace, reference.name)})


def find(
    namespace: str, spec: ModelDeploymentSpec, references: Mapping[Key, Manifest | None]
) -> Source | Problem:
    """The model, or why it can't be served. A problem that is not `fatal` may go away by itself."""
    reference = spec.model.training_job_ref
    if reference is None:
        return Source(str(spec.model.uri), revision=spec.model.revision)
    job = references.get(Key(TRAINING_JOB, namespace, reference.name))
    if job is None:
        return Problem(
            "TrainingJobNotFound",
            f"There is no TrainingJob {reference.name} in this namespace; it is waited for. Create it, or correct "
            "spec.model.trainingJobRef.name.",
        )
    return _read_job(namespace, job, allow_gate_failed=bool(spec.model.allow_gate_failed))


def recall(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> Source | None:
    """What a TrainingJob of that name left when its model was built; it may be gone since, or train again."""
    reference, model = spec.model.training_job_ref, status.model
    if reference is None or model is None or model.job != reference.name:
        return None
    return Source(
        model.uri,
        digest=model.digest,
        task=model.stated_task,
        job=model.job,
        storage=status.storage if status.storage_choice == "Job" else None,
        dataset=model.dataset,
    )


def _read_job(namespace: str, job: Manifest, *, allow_gate_failed: bool) -> Source | Problem:
    name, status = str(job["metadata"]["name"]), job.get("status") or {}
    ready = _condition(status, "Ready")
    stale = status.get("observedGeneration") != job["metadata"].get("generation")
    if stale or not status.get("completionTime"):
        phase = str(status.get("phase") or "Pending")
        return Problem(
            "WaitingForTraining", f"TrainingJob {name} is {phase}; its model is served once it has succeeded."
        )
    missed = ready.get("reason") == "GateFailed"
    if missed and not allow_gate_failed:
        return Problem(
            "GateFailed",
            f"TrainingJob {name} missed its gate: {ready.get('message', '')} Train again, or set "
            "spec.model.allowGateFailed to serve the model nevertheless.",
            fatal=True,
        )
    model = status.get("model") or {}
    if not (missed or ready.get("status") == "True") or not model.get("uri") or not model.get("digest"):
        why = ready.get("message") or "it has left no model."
        return Problem(
            "TrainingFailed",
            f"TrainingJob {name} has no model to serve: {why} Train again under this name, or name another job.",
            fatal=True,
        )
    uri = str(model["uri"])
    # Of the status, since a profile may have changed since. A model that a user's program has put elsewhere tells no
    # storage.
    storage = layout.find_root(uri, namespace)
    data = (status.get("data") or {}).get("digest")
    return Source(
        uri,
        digest=str(model["digest"]),
        task=(job.get("spec") or {}).get("task"),
        job=name,
        storage=storage,
        dataset=f"{storage}/{layout.dataset_dir(data)}" if storage and data else None,
    )


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next((c for c in status.get("conditions") or () if c.get("type") == kind), {})
    return found
