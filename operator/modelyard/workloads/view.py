"""What one pass works on: the resource, what is seen of it, and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from modelyard.api.base import ApiModel
from modelyard.engine.kinds import controller_uid
from modelyard.engine.plan import Manifest, Seen

S = TypeVar("S", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class View:
    """A custom resource. Features add its parsed spec and status."""

    resource: Manifest
    seen: Seen
    now: datetime

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.resource["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.resource["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """Its uid."""
        return str(self.resource["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """Its generation."""
        return int(self.resource["metadata"].get("generation", 0))

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.resource["metadata"].get("labels") or {})

    def made(self, kind: str) -> list[Manifest]:
        """What it has made itself of one kind. What others have made of that may bear its labels: KEDA makes a
        HorizontalPodAutoscaler of a ScaledObject, and copies them.
        """
        return [obj for obj in self.seen.of_kind(kind) if controller_uid(obj) == self.uid]


def read_status(model: type[S], raw: Mapping[str, Any]) -> S:
    """A status as far as this release understands it: what another release or a hand wrote wrongly is left out."""
    known = dict(raw)
    while True:
        try:
            return model.model_validate(known, extra="ignore")
        except ValidationError as error:
            for field in {str(e["loc"][0]) for e in error.errors()}:
                known.pop(field, None)
