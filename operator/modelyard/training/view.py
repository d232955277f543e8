"""What one pass works on: the job, what is seen of it, and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelyard.api.status import TrainingJobStatus
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.workloads import view


@dataclass(frozen=True, slots=True)
class View(view.View):
    """A parsed TrainingJob. `status` is the one of the last pass."""

    spec: TrainingJobSpec
    status: TrainingJobStatus


def read_status(raw: dict[str, Any]) -> TrainingJobStatus:
    """The status as far as this release understands it."""
    return view.read_status(TrainingJobStatus, raw)
