"""What a plan sees and says. A plan is a pure function of these values; the engine does the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from modelyard.engine.probe import Age, Question

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

    A child that can't be changed in place (`immutable`, a Job) is applied only while it is absent; later only
    the dotted paths of `mutable` are brought to their values, as `{"spec.suspend": True}`. A change of
    anything else takes a new name. A child that is `detached` gets no owner reference: it outlives its owner
    and is never pruned. The engine adds the managed-by and owner labels (to the object and to its pod
    template), the owner reference and the namespace; the manifest needs none of them.
    """

    manifest: Manifest
    immutable: bool = False
    mutable: Mapping[str, Any] = field(default_factory=dict)
    detached: bool = False

    @property
    def id(self) -> str:
        """Kind/name, as `Plan.keep` and `Seen.rejections` name children."""
        return f"{self.manifest['kind']}/{self.manifest['metadata']['name']}"


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event on the custom resource.

    It tells of the change from the resource's present status to the plan's, so a plan names it exactly while
    it makes that change. The engine emits it once for each change, also over a restart.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the API server did not take a child: quota, admission policy, a name that is taken …

    `reason` is PascalCase (`Invalid`, `Forbidden`, `QuotaExceeded`, `NameTaken`; `Terminating` where an earlier
    object of that name is still being deleted; `NotServed` where the cluster lacks the kind, `NotFound` where it lacks
    something that the child names), fit for a condition;
    `message` is the server's sentence. It stands until the child is taken or no longer planned; the engine
    goes on trying, less and less often, at least once a minute.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is observed of one custom resource.

    `children` are the objects below it (its own and their own: the pods of its Jobs) as the watch cache
    has them; owners are checked by uid, so nothing of an earlier object of the same name is among them,
    but for detached children, which belong to the name. Children of a kind that has a digest are not among them:
    `digests` has their facts, by their ids (Kind/name). `references` are the resources that the plan has named, as they
    are now; None where there is none of that name. `served` are the optional kinds that the cluster has at present: a
    child of another one is refused (`NotServed`) without a call. `departed` are the last states of children
    that are gone since a short while (of kinds that are remembered, and while their controller is still
    there). `facts` are the last answers of the plan's probes, by the probes' names, `ages` how old those of pods are.
    `rejections` are the
    planned children that the API server refused, by their ids (Kind/name). The plan must go on naming
    such a child (else it is given up) and should say why it is missing: Ready=False, Reconciling=True
    with the rejection's reason and message.
    """

    children: tuple[Manifest, ...] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rejections: Mapping[str, Rejection] = field(default_factory=dict)
    departed: tuple[Manifest, ...] = ()
    digests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    references: Mapping[Key, Manifest | None] = field(default_factory=dict)
    served: frozenset[str] = frozenset()
    ages: Mapping[str, Age] = field(default_factory=dict)

    def of_kind(self, kind: str) -> tuple[Manifest, ...]:
        """The children of one kind, ordered by name."""
        found = (c for c in self.children if c.get("kind") == kind)
        return tuple(sorted(found, key=lambda c: str(c["metadata"]["name"])))


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be true.

    `children` are applied in this order: neighbours at once, but one with a pod template after all before it. A refused
    one holds back the later groups. Children not named here any more are deleted (`keep` names children, as Kind/name,
    that are left as they are, neither applied nor deleted; it is also the cheapest word for the many children that
    nothing is to be done about). After children were written the plan is made again with them in view, so that one
    status write tells the whole.

    `references` names other custom resources of the namespace that the plan hangs on. While there are some that
    `Seen.references` does not answer, nothing of the plan is done: it is made again with the answers. Whenever one of
    them comes, changes or goes, the resource is looked at again.

    `status` is the whole status. `volatile` names the top-level status fields whose change alone may wait for the next
    slow write (10 s). `requeue_after` is in seconds. `delete` removes the custom resource itself (its time to live has
    passed).
    """

    status: Mapping[str, Any]
    children: tuple[Child, ...] = ()
    keep: frozenset[str] = frozenset()
    references: frozenset[Key] = frozenset()
    events: tuple[Event, ...] = ()
    probes: tuple[Question, ...] = ()
    volatile: frozenset[str] = frozenset()
    requeue_after: float | None = None
    delete: bool = False


class Planner(Protocol):
    """A feature's plan, as the engine calls it."""

    def __call__(self, resource: Manifest, seen: Seen, now: datetime) -> Plan:
        """No I/O, no clock, no randomness. Must not raise for anything a user can write."""
