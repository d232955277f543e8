"""An API server in memory.

Objects with versions and uids, field ownership, garbage collection, watches, and faults.

It knows of server-side apply what the engine relies on: a manager's earlier fields go when it leaves them
out, what shall be new is no other, generation moves with the spec, a no-op keeps the version.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modelyard.engine.errors import AlreadyExists, ClusterError, Conflict, NotFound, Refused
from modelyard.engine.kinds import Kinds, is_managed, key_of
from modelyard.engine.plan import Key, Manifest
from modelyard.engine.ports import CHILD_MANAGER, STATUS_MANAGER

Path = tuple[str, ...]
_Answer = TypeVar("_Answer")
IMMUTABLE = {"Job": (("spec", "template"), ("spec", "completions"))}


class Crash(BaseException):
    """The process dies here. Not an Exception, so that nothing handles it."""


REPLICAS = ("spec", "replicas")


@dataclass
class Call:
    """One write that reached the server."""

    operation: str
    key: Key
    manager: str = ""


@dataclass
class FakeCluster:
    """Implements `engine.ports.Cluster`.

    `before` and `after` are called with the number of each write (from 1) and the call; what they raise
    happens to the caller, before or after the write has taken effect. `refuse` returns an error for objects
    that are not admitted. `served` are the optional kinds that there are.
    """

    kinds: Kinds
    objects: dict[Key, Manifest] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    events: dict[str, Manifest] = field(default_factory=dict)
    before: Callable[[int, Call], None] = lambda n, call: None
    after: Callable[[int, Call], None] = lambda n, call: None
    refuse: Callable[[Manifest], ClusterError | None] = lambda manifest: None
    finalizers: set[str] = field(default_factory=set)
    served: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._owned: dict[Key, dict[str, set[Path]]] = {}
        self._watchers: list[Callable[[str | None, Manifest], object]] = []
        self.backlog: list[tuple[str, Manifest]] = []
        self.held = False

    # What tests do

    def watch(self, observer: Callable[[str | None, Manifest], object]) -> None:
        """Lists to the observer, and tells it of every change from now on."""
        self._watchers.append(observer)
        for obj in list(self.objects.values()):
            if self._is_watched(obj):
                observer(None, copy.deepcopy(obj))

    def unwatch(self) -> None:
        """Nobody is told any more."""
        self._watchers.clear()
        self.backlog.clear()

    def hold(self) -> None:
        """Watches fall silent; what they would say is kept."""
        self.held = True

    def flush(self) -> None:
        """Watches say what they have kept."""
        self.held = False
        backlog, self.backlog = self.backlog, []
        for event, obj in backlog:
            self._tell(event, obj)

    def create(self, manifest: Manifest) -> Manifest:
        """A user or another controller creates an object."""
        key = key_of(manifest)
        assert key not in self.objects
        return self._store(key, copy.deepcopy(manifest), None)

    def change(self, key: Key, change: Callable[[Manifest], object]) -> Manifest:
        """A user or another controller changes an object."""
        obj = copy.deepcopy(self.objects[key])
        change(obj)
        return self._store(key, obj, self.objects[key])

    def scale(self, key: Key, replicas: int, writer: str) -> None:
        """Somebody writes through the scale subresource."""
        entry = {"manager": writer, "operation": "Update", "subresource": "scale"}

        def write(obj: Manifest) -> None:
            obj["spec"]["replicas"] = replicas
            obj["metadata"]["managedFields"] = [entry]

        self.change(key, write)

    def erase(self, key: Key) -> None:
        """The object goes, with what it owns."""
        obj = self.objects.pop(key)
        self._owned.pop(key, None)
        self._emit(
            "DELETED", obj | {"metadata": obj["metadata"] | {"resourceVersion": str(next(self._versions))}}
        )
        uid = obj["metadata"]["uid"]
        for other in list(self.objects):
            if other in self.objects and any(
                r["uid"] == uid for r in self.objects[other]["metadata"].get("ownerReferences") or ()
            ):
                self.erase(other)

    def operations(self) -> list[str]:
        """The writes so far, as `apply Job/a`."""
        return [f"{c.operation} {c.key.kind}/{c.key.name}" for c in self.calls]

    # engine.ports.Cluster

    async def apply(self, manifest: Manifest, *, manager: str = CHILD_MANAGER, new: bool = False) -> Manifest:
        """Server-side apply."""
        return self._write(
            "apply", key_of(manifest), manager, lambda: self._apply(manifest, manager, new=new)
        )

    async def find(self, key: Key) -> Manifest | None:
        """The object of that name."""
        return copy.deepcopy(self.objects.get(key))

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the status."""
        key = key_of(manifest)

        def write() -> Manifest:
            if key not in self.objects:
                raise NotFound(str(key))
            return self._apply(manifest, STATUS_MANAGER)

        return self._write("status", key, STATUS_MANAGER, write)

    async def delete(self, key: Key, uid: str) -> Manifest | None:
        """Deletes, with what is owned."""

        def write() -> Manifest | None:
            obj = self.objects.get(key)
            if obj is None:
                return None
            if obj["metadata"]["uid"] != uid:
                raise Conflict("uid")
            if key.kind in self.finalizers:
                return self.change(
                    key, lambda o: o["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z")
                )
            self.erase(key)
            return None

        return self._write("delete", key, "", write)

    async def create_event(self, manifest: Manifest) -> None:
        """Creates an Event."""
        key = key_of(manifest)

        def write() -> None:
            if key.name in self.events:
                raise AlreadyExists(key.name)
            self.events[key.name] = manifest

        try:
            self._write("event", key, "", write)
        except AlreadyExists:
            return

    def _write(self, operation: str, key: Key, manager: str, write: Callable[[], _Answer]) -> _Answer:
        call = Call(operation, key, manager)
        self.calls.append(call)
        number = len(self.calls)
        self.before(number, call)
        answer = write()
        self.after(number, call)
        return copy.deepcopy(answer)

    def _apply(self, manifest: Manifest, manager: str, *, new: bool = False) -> Manifest:
        key = key_of(manifest)
        old = self.objects.get(key)
        if self.kinds[key.kind].optional and key.kind not in self.served:
            raise NotFound("the server could not find the requested resource")
        error = self.refuse(manifest)
        if error is not None:
            raise error
        uid = manifest["metadata"].get("uid")
        if uid is not None and (old is None or old["metadata"]["uid"] != uid):
            raise Conflict("uid")
        if new and old is not None:
            raise Conflict("the object has been modified")
        mine = set(_leaves(manifest)) - {("kind",), ("apiVersion",)}
        mine = {
            p
            for p in mine
            if p[:2] not in (("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid"))
        }
        owned = self._owned.setdefault(key, {})
        if old is None:
            owned.clear()
            owned[manager] = mine
            return self._store(key, copy.deepcopy(manifest), None)
        self._take_over(old, manifest, mine, owned, manager)
        changed = copy.deepcopy(old)
        others = {p for m, paths in owned.items() if m != manager for p in paths}
        for path in owned.get(manager, set()) - mine - others:
            _remove(changed, path)
        for path in mine:
            _set(changed, path, copy.deepcopy(_get(manifest, path)))
        for path in IMMUTABLE.get(key.kind, ()):
            if _get(changed, path) != _get(old, path):
                raise Refused("Invalid", f"{'.'.join(path)}: field is immutable")
        owned[manager] = mine
        if _get(changed, REPLICAS) != _get(old, REPLICAS):
            # Whoever had scaled it owns nothing of it any more.
            changed["metadata"].pop("managedFields", None)
        return self._store(key, changed, old)

    @staticmethod
    def _take_over(
        old: Manifest, manifest: Manifest, mine: set[Path], owned: dict[str, set[Path]], manager: str
    ) -> None:
        """What it gives another value was another manager's until now."""
        for path in mine - owned.get(manager, set()):
            if _get(old, path) not in (None, _get(manifest, path)):
                for paths in owned.values():
                    paths.discard(path)

    def _store(self, key: Key, new: Manifest, old: Manifest | None) -> Manifest:
        metadata = new["metadata"]
        if old is None:
            metadata["uid"] = f"uid-{next(self._uids)}"
            metadata["generation"] = 1
            metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
            if self.kinds.is_primary(key.kind):
                new.setdefault("status", {"observedGeneration": -1})
        elif new == old:
            return old
        elif new.get("spec") != old.get("spec"):
            metadata["generation"] = old["metadata"]["generation"] + 1
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[key] = new
        self._emit("ADDED" if old is None else "MODIFIED", new, old)
        return new

    def _emit(self, event: str, obj: Manifest, old: Manifest | None = None) -> None:
        if not self._is_watched(obj):
            if old is None or not self._is_watched(old):
                return
            event = "DELETED"  # it has left the selection
        if self.held:
            self.backlog.append((event, copy.deepcopy(obj)))
        else:
            self._tell(event, obj)

    def _tell(self, event: str, obj: Manifest) -> None:
        for watcher in self._watchers:
            watcher(event, copy.deepcopy(obj))

    def _is_watched(self, obj: Manifest) -> bool:
        if obj["kind"] not in self.kinds:
            return False
        return is_managed(obj) or self.kinds.is_primary(obj["kind"])


def _leaves(value: Any, path: Path = ()) -> list[Path]:
    """Paths of everything that is not a non-empty object; lists count as one field."""
    if isinstance(value, dict) and value:
        return [leaf for k, v in value.items() for leaf in _leaves(v, (*path, k))]
    return [path]


def _get(value: Any, path: Path) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _set(value: Manifest, path: Path, new: Any) -> None:
    for name in path[:-1]:
        value = value.setdefault(name, {})
    value[path[-1]] = new


def _remove(value: Manifest, path: Path) -> None:
    parents = [value]
    for name in path[:-1]:
        if name not in parents[-1]:
            return
        parents.append(parents[-1][name])
    parents[-1].pop(path[-1], None)
    for parent, name in zip(reversed(parents[:-1]), reversed(path[:-1]), strict=True):
        if parent[name] == {}:
            del parent[name]
