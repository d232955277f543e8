"""What a plan sees and says. A plan is a pure function of these values; the engine does the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One custom resource."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Child:
    """One object that should exist.

    A child that can't be changed in place (`immutable`, a Job) is applied only while it is absent; later only the
    dotted paths of `mutable` are brought to their values, as `{"spec.suspend": True}`. A change of anything else
    takes a new name.
    A child that is `detached` gets no owner reference: it outlives its owner and is never pruned.
    """

    manifest: Manifest
    immutable: bool = False
    mutable: Mapping[str, Any] = field(default_factory=dict)
    detached: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event on the custom resource; emitted once per transition, after the status is written."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Probe:
    """An agent to ask for progress. Its answer (parsed JSON) comes back as `Seen.facts[name]`."""

    name: str
    namespace: str
    pod: str
    ip: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is observed of one custom resource.

    `children` are the objects below it (its own and their own: the pods of its Jobs) as the watch cache has them;
    owners are checked by uid, so nothing of an earlier object of the same name is among them.
    `facts` are the last answers of the plan's probes, by the probes' names.
    """

    children: tuple[Manifest, ...] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of_kind(self, kind: str) -> tuple[Manifest, ...]:
        """The children of one kind, ordered by name."""
        found = (c for c in self.children if c.get("kind") == kind)
        return tuple(sorted(found, key=lambda c: str(c["metadata"]["name"])))


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be true.

    `children` not named here any more are deleted (`keep` names children, as Kind/name, that are left as they are,
    neither applied nor deleted). `status` is the whole status. `volatile` names the top-level status fields whose
    change alone may wait for the next slow write. `requeue_after` is in seconds. `delete` removes the custom resource
    itself (its time to live has passed).
    """

    status: Mapping[str, Any]
    children: tuple[Child, ...] = ()
    keep: frozenset[str] = frozenset()
    events: tuple[Event, ...] = ()
    probes: tuple[Probe, ...] = ()
    volatile: frozenset[str] = frozenset()
    requeue_after: float | None = None
    delete: bool = False


class Planner(Protocol):
    """A feature's plan, as the engine calls it."""

    def __call__(self, resource: Manifest, seen: Seen, now: datetime) -> Plan:
        """No I/O, no clock, no randomness. Must not raise for anything a user can write."""
