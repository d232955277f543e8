"""A kind of object as the engine and its edge address it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.engine.plan import Key, Manifest

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "modelyard"
MANAGED_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One namespaced kind.

    A kind with an `owner_label` is a custom resource that is reconciled; the label, set to the resource's name, marks
    everything below it. Names of such kinds must fit a label's value (63 characters), as their schemas demand. Of a
    kind that is `remembered` the last state of deleted objects stays known for a while. Objects of a `detachable`
    kind belong to the resource that their label names also without a controller. An `optional` kind comes and goes
    with its CustomResourceDefinition; it has no `owner_label`.

    `digest` makes of an object the few facts that the plan of its owner reads (plain values that compare equal while
    they are the same). It is called once for each version; the owner is looked at again when the facts change, and its
    plan gets them in place of the object, so that a thousand children cost it a thousand look-ups.

    `news` leaves out of an object's status what no plan reads: a change of nothing else is none to its owner. Its plan
    gets the object as it is.
    """

    name: str
    group: str
    version: str
    plural: str
    owner_label: str | None = None
    remembered: bool = False
    detachable: bool = False
    optional: bool = False
    digest: Callable[[Manifest], Mapping[str, Any]] | None = None
    news: Callable[[Mapping[str, Any]], Any] | None = None

    @property
    def api_version(self) -> str:
        """As it stands in manifests: `batch/v1`, `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None) -> str:
        """The collection's path on the API server; over all namespaces without one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"


class Kinds:
    """The kinds that one operator works with, by their names."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._owner_labels = tuple((k.name, k.owner_label) for k in self if k.owner_label)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def __getitem__(self, name: str) -> Kind:
        return self._kinds[name]

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def is_primary(self, name: str) -> bool:
        """Whether objects of this kind are reconciled themselves."""
        return self._kinds[name].owner_label is not None

    def owners(self, obj: dict[str, Any]) -> tuple[Key, ...]:
        """The custom resources that an object's labels put it below."""
        metadata = obj["metadata"]
        labels = metadata.get("labels")
        if not labels:
            return ()
        namespace = metadata.get("namespace", "")
        return tuple(
            Key(kind, namespace, labels[label]) for kind, label in self._owner_labels if label in labels
        )


def is_managed(obj: Manifest) -> bool:
    """Whether it carries the label by which watches choose what they tell of."""
    return (obj["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY


def key_of(obj: dict[str, Any]) -> Key:
    """The key of an object that names its own kind."""
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])


def controller_uid(obj: dict[str, Any]) -> str | None:
    """The uid of the object's controller, if it has one."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def version_of(obj: dict[str, Any]) -> int:
    """The resourceVersion as a number; Kubernetes declares it comparable within one kind. 0 if it is none."""
    text = str(obj["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0
