"""What a feature says of itself: the one place from which watches, plans and permissions follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from modelyard.engine.kinds import Kind, Kinds
from modelyard.engine.measure import Measure
from modelyard.engine.plan import Planner

CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")
EVENTS = ("", "events")
# Of namespaces' own Roles where the operator is restricted to some; and of one by name only.
ROLES = ("rbac.authorization.k8s.io", "clusterroles")
_FOLLOWED = {"list", "watch"}
# Server-side apply is a PATCH; where it creates, create is asked for too.
_APPLIED = {"create", "patch"}

Permissions = dict[tuple[str, str], set[str]]


@dataclass(frozen=True, slots=True)
class Feature:
    """One kind of custom resource.

    `make_planner` gets a function that gives the operator's present settings. Of the kinds `makes` its plans make
    children, and prune them; of the kinds `sees` others make objects below those (the Job controller makes pods); of
    the kinds `looks_at` it asks for single objects that no watch tells of. `measure` is what is measured of each
    resource. A resource that `expires` is deleted by its own plan; one that `binds` gives a role to accounts that
    it makes.
    """

    kind: Kind
    make_planner: Callable[[Callable[[], Any]], Planner]
    makes: tuple[Kind, ...]
    sees: tuple[Kind, ...] = ()
    looks_at: tuple[Kind, ...] = ()
    measure: Measure | None = None
    expires: bool = False
    binds: bool = False


def find_kinds(features: Iterable[Feature]) -> Kinds:
    """All kinds that these features reconcile, make or see. Raises ValueError where two differ about one."""
    found: dict[str, Kind] = {}
    for feature in features:
        for kind in (feature.kind, *feature.makes, *feature.sees):
            if found.setdefault(kind.name, kind) != kind:
                raise ValueError(f"two features differ about the kind {kind.name}")
    return Kinds(found.values())


def find_permissions(features: Iterable[Feature]) -> Permissions:
    """What the operator's account must be allowed, by group and resource. The chart grants exactly this.

    Only its Lease comes on top, in the operator's own namespace.
    """
    # Events are written, and read where only they say why a pod is missing.
    found: Permissions = {EVENTS: {"list", "create"}}

    def allow(kind: Kind, verbs: set[str], sub: str = "") -> None:
        found.setdefault((kind.group, kind.plural + sub), set()).update(verbs)

    for feature in features:
        allow(feature.kind, _FOLLOWED | ({"delete"} if feature.expires else set()))
        allow(feature.kind, {"patch"}, "/status")
        # Needed to set blockOwnerDeletion in owner references, where the cluster enforces it.
        allow(feature.kind, {"update"}, "/finalizers")
        for kind in feature.makes:
            allow(kind, _FOLLOWED | _APPLIED | {"delete"})
        for kind in feature.sees:
            allow(kind, _FOLLOWED)
        for kind in feature.looks_at:
            allow(kind, {"get"})
        if any(kind.optional for kind in feature.makes):
            found[CRDS] = {"watch"}
        if feature.binds:
            found[ROLES] = {"bind"}
    return found
