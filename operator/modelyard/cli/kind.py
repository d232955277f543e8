"""What the command line knows of a kind of custom resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelyard.api.profile import Settings
from modelyard.engine import kinds
from modelyard.engine.plan import Manifest, Plan

Object = Mapping[str, Any]
# The API server gives the uid, and pods give the digests; these stand for them where there is no cluster.
UID = "00000000-0000-0000-0000-000000000000"
DIGEST = "sha256-" + "0" * 64


@dataclass(frozen=True, slots=True)
class Look:
    """How an object stands at a moment.

    `head` and `body` are its lines on a terminal. A log gets `line` at each change of `mark`, and below it the `notes`
    at each change of them. `outcome` is True: at its end; False: failed, or stuck for good; None: under way. `end` is
    what there is to say once it is not None.
    """

    head: str
    body: list[str]
    line: str
    mark: Any
    outcome: bool | None
    notes: list[str] = field(default_factory=list)
    end: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The whole of it on a terminal."""
        return [self.head, *(f"  {line}" for line in self.body)]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the plan that can be rendered without a cluster. `plan` gets the resource, without a status."""

    name: str
    plan: Callable[[Manifest, Settings], Plan]


@dataclass(frozen=True, slots=True)
class Kind:
    """`short` is its short name for kubectl. The first of the stages is where a resource begins."""

    resource: kinds.Kind
    short: str
    look: Callable[[Object, datetime], Look]
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """As manifests have it."""
        return self.resource.name

    @property
    def query(self) -> str:
        """As kubectl is asked for it."""
        return f"{self.resource.plural}.{self.resource.group}"

    def find_stage(self, name: str | None) -> Stage | None:
        """The stage of that name; the first one without a name."""
        return next((stage for stage in self.stages if name in (None, stage.name)), None)
