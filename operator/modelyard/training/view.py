"""What one pass works on: the job, what is seen of it, and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from modelyard.api.status import TrainingJobStatus
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.workloads import view


@dataclass(frozen=True, slots=True)
class View(view.View):
    """A parsed TrainingJob. `status` is the one of the last pass."""

    spec: TrainingJobSpec
    status: TrainingJobStatus


def read_status(raw: dict[str, Any]) -> TrainingJobStatus:
    """The status as far as this release understands it: what another release or a hand wrote wrongly is left
    out.
    """
    known = dict(raw)
    while True:
        try:
            return TrainingJobStatus.model_validate(known, extra="ignore")
        except ValidationError as error:
            for field in {str(e["loc"][0]) for e in error.errors()}:
                known.pop(field, None)
