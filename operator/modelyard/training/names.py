"""Names and labels of a TrainingJob's children. Deterministic, so that a restart of the operator doubles
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from modelyard.engine.plan import Manifest
from modelyard.workloads import labels

JOB_LABEL = "modelyard.dev/trainingjob"
ATTEMPT_LABEL = "modelyard.dev/attempt"
POD_TEMPLATE = "spec.trainer.podTemplate"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

# A Service's name, `<job>-train`, begins with a letter and has no dots.
NAME_RULE = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


def storage_claim(job: str) -> str:
    """The job's own claim."""
    return f"{job}-storage"


def stage_job(job: str, stage: str, index: int) -> str:
    """Job of one attempt at a stage: prepare, train or collect."""
    return f"{job}-{stage}-{index}"


def train_service(job: str) -> str:
    """Headless Service that gives the train pods their host names."""
    return f"{job}-train"


def stage_index(job: str, stage: str, name: str) -> int | None:
    """The attempt's index out of a Job's name; None where the Job is of another stage."""
    prefix = f"{job}-{stage}-"
    digits = name.removeprefix(prefix)
    return int(digits) if name.startswith(prefix) and digits.isdigit() else None


def find_jobs(children: Iterable[Manifest], job: str, stage: str) -> dict[int, Manifest]:
    """The stage's Jobs by their attempts' indices."""
    found = {}
    for child in children:
        if child.get("kind") == "Job":
            index = stage_index(job, stage, child["metadata"]["name"])
            if index is not None:
                found[index] = child
    return found


def object_labels(job: str, own: Mapping[str, str]) -> dict[str, str]:
    """Labels of every child of a job, whose own labels are `own`."""
    return labels.build(JOB_LABEL, job, own)
