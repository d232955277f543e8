"""What one pass works on: the resource, what is seen of it, and the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from modelyard.engine.plan import Manifest, Seen


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
