"""What the status has taken over of what Jobs' pods said."""

from __future__ import annotations

from modelyard.api.status import TrainingJobStatus
from modelyard.engine.plan import Manifest
from modelyard.training import names
from modelyard.workloads.labels import STAGE_LABEL


def is_recorded(status: TrainingJobStatus, job: Manifest) -> bool:
    """Whether nothing is lost with this Job's pods."""
    labels = job["metadata"].get("labels") or {}
    stage, index = labels.get(STAGE_LABEL), int(labels.get(names.ATTEMPT_LABEL) or 0)
    if stage == "prepare":
        over = status.data is not None or status.prepare_attempt > index
        return over or (status.prepare_attempt == index and status.retry_time is not None)
    if stage == "train":
        return any(attempt.index == index and attempt.cause for attempt in status.attempts)
    return False
