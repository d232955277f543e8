"""What one pass works on: the job, what is seen of it, and the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from modelyard.api.status import TrainingJobStatus
from modelyard.api.trainingjob import TrainingJobSpec
from modelyard.engine.plan import Manifest, Seen


@dataclass(frozen=True, slots=True)
class View:
    """A parsed TrainingJob. `status` is the one of the last pass."""

    job: Manifest
    spec: TrainingJobSpec
    status: TrainingJobStatus
    seen: Seen
    now: datetime

    @property
    def name(self) -> str:
        """Name of the job."""
        return str(self.job["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.job["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """Its uid."""
        return str(self.job["metadata"]["uid"])

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.job["metadata"].get("labels") or {})


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


def parse_time(text: str) -> datetime:
    """A Kubernetes time."""
    return datetime.fromisoformat(text)


def seconds_since(text: str | None, now: datetime) -> float:
    """Seconds from a Kubernetes time to now; 0 where it is unset."""
    return (now - parse_time(text)).total_seconds() if text else 0.0
