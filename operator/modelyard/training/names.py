"""Names and labels of a TrainingJob's children. Deterministic, so that a restart of the operator doubles
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from modelyard.engine.plan import Manifest

JOB_LABEL = "modelyard.dev/trainingjob"
STAGE_LABEL = "modelyard.dev/stage"
ATTEMPT_LABEL = "modelyard.dev/attempt"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
INHERITED_LABELS = ("modelyard.dev/project", "modelyard.dev/team")

# A Service's name, `<job>-train`, begins with a letter and has no dots.
NAME_RULE = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


def storage_claim(job: str) -> str:
    """The job's own claim."""
    return f"{job}-storage"


def run_config(job: str, digest: str) -> str:
    """ConfigMap with the run config of this digest."""
    return f"{job}-run-{digest}"


def stage_job(job: str, stage: str, index: int) -> str:
    """Job of one attempt at a stage: prepare, train or collect."""
    return f"{job}-{stage}-{index}"


# The init container that carries the agent into users' own images.
AGENT_CONTAINER = "agent"


def resources_field(stage: str) -> str:
    """The field that says what a stage's pods ask for."""
    return "spec.trainer.resourcesPerNode" if stage == "train" else "spec.data.resources"


def pods_field(stage: str) -> str:
    """The field for all else of a stage's pods."""
    return "spec.trainer.podTemplate.spec or the profile" if stage == "train" else "the profile"


def main_container(stage: str) -> str:
    """The container of a stage's pods that does its work. Others may stand beside it, in any order."""
    return "trainer" if stage == "train" else stage


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


def object_labels(job: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of every child: ours, and what cost and lineage are counted by."""
    inherited = {key: labels[key] for key in INHERITED_LABELS if key in labels}
    return {
        "app.kubernetes.io/managed-by": "modelyard",
        "app.kubernetes.io/part-of": "modelyard",
        JOB_LABEL: job,
        **inherited,
    }
