"""The objects as the watches tell of them, and which belongs below which custom resource."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from modelyard.engine.kinds import Kinds, controller_uid, key_of, version_of
from modelyard.engine.plan import Key, Manifest

# Seconds for which the last state of a deleted object stays known: enough for any pass to take it over, also
# for one that has to be repeated while the API server is in trouble.
REMEMBERED = 600.0


class Entry:
    """One object. Packed, it takes a tenth of the memory; nearly all objects of a cluster are at rest."""

    __slots__ = ("_body", "_packed", "controller", "ending", "kind", "namespace", "owners", "uid", "version")

    def __init__(self, obj: Manifest, owners: tuple[Key, ...]) -> None:
        metadata = obj["metadata"]
        self._body: Manifest | None = obj
        self._packed = b""
        self.kind: str = obj["kind"]
        self.namespace: str = metadata.get("namespace", "")
        self.uid: str = metadata.get("uid", "")
        self.version = version_of(obj)
        self.controller = controller_uid(obj)
        self.ending = "deletionTimestamp" in metadata
        self.owners = owners

    @property
    def body(self) -> Manifest:
        """The object. Nobody may change it."""
        if self._body is not None:
            return self._body
        body: Manifest = json.loads(zlib.decompress(self._packed))
        return body

    def pack(self) -> None:
        """Lays the object to rest."""
        if self._body is not None:
            self._packed = zlib.compress(json.dumps(self._body, separators=(",", ":")).encode(), 1)
            self._body = None


class Cache:
    """Objects by key, and an index from custom resources to what carries their label."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._entries: dict[Key, Entry] = {}
        self._below: dict[Key, set[Key]] = {}
        self._unpacked: dict[Key, float] = {}
        self._uids: dict[str, set[str]] = {kind.name: set() for kind in kinds}
        # By the uid of their controller, with when they went (monotonic seconds).
        self._departed: dict[str, list[tuple[float, Entry]]] = {}

    def put(self, obj: Manifest, now: float, *, at_rest: bool = False) -> bool:
        """Takes an object in. Returns whether that is news: older or equal versions are not.

        `now` is monotonic seconds; `at_rest` packs the object at once.
        """
        key = key_of(obj)
        old = self._entries.get(key)
        version = version_of(obj)
        if old is not None and version and old.version >= version:
            return False
        obj["metadata"].pop("managedFields", None)
        entry = Entry(obj, self._kinds.owners(obj))
        if old is not None and old.uid != entry.uid:
            self._uids[key.kind].discard(old.uid)
        self._uids[key.kind].add(entry.uid)
        if old is not None and old.owners != entry.owners:
            self._unlink(key, old)
            old = None
        if old is None:
            for owner in entry.owners:
                self._below.setdefault(owner, set()).add(key)
        self._entries[key] = entry
        if at_rest:
            entry.pack()
            self._unpacked.pop(key, None)
        else:
            self._unpacked[key] = now
        return True

    def remove(self, key: Key) -> None:
        """Forgets an object."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._unlink(key, entry)
            self._unpacked.pop(key, None)
            self._uids[key.kind].discard(entry.uid)
            self._departed.pop(entry.uid, None)

    def depart(self, obj: Manifest, now: float) -> None:
        """Forgets an object whose deletion the watch tells of, but for its last state if that is remembered.

        `now` is monotonic seconds.
        """
        key = key_of(obj)
        known = self._entries.get(key)
        self.remove(key)
        if known is None or known.controller is None or not self._kinds[key.kind].remembered:
            return
        entry = Entry(obj, ())
        entry.pack()
        self._departed.setdefault(known.controller, []).append((now, entry))

    def _unlink(self, key: Key, entry: Entry) -> None:
        for owner in entry.owners:
            below = self._below.get(owner)
            if below is not None:
                below.discard(key)
                if not below:
                    del self._below[owner]

    def get(self, key: Key) -> Manifest | None:
        """The object, if it is known. Nobody may change it."""
        entry = self._entries.get(key)
        return entry.body if entry is not None else None

    def entry(self, key: Key) -> Entry | None:
        """The object with what is known of it without unpacking."""
        return self._entries.get(key)

    def keys(self, kind: str) -> Iterator[Key]:
        """The keys of one kind."""
        return (key for key in tuple(self._entries) if key.kind == kind)

    def count(self, kind: str) -> int:
        """How many objects of one kind there are."""
        return len(self._uids[kind])

    def has(self, kind: str, uid: str) -> bool:
        """Whether an object of that kind and uid is known."""
        return uid in self._uids[kind]

    def affected(self, obj: Manifest) -> tuple[Key, ...]:
        """The custom resources to look at again after a change of this object.

        Itself, and those it is below.
        """
        owners = self._kinds.owners(obj)
        return (key_of(obj), *owners) if self._kinds.is_primary(obj["kind"]) else owners

    def below(self, key: Key, uid: str) -> list[tuple[Key, Entry]]:
        """What belongs to this very resource.

        Its owner chain ends at `uid`, or it has no controller and is of a kind that needs none. Anything else without
        one was left by an earlier resource (`kubectl delete --cascade=orphan`), and tells of that one.
        """
        candidates = [(k, self._entries[k]) for k in self._below.get(key, ())]
        found = [
            (k, e)
            for k, e in candidates
            if e.controller == uid or (e.controller is None and self._kinds[k.kind].detachable)
        ]
        reached = {e.uid for _, e in found}
        rest = [(k, e) for k, e in candidates if e.controller is not None and e.controller != uid]
        while rest:
            step = [(k, e) for k, e in rest if e.controller in reached]
            if not step:
                break
            found += step
            reached |= {e.uid for _, e in step}
            rest = [(k, e) for k, e in rest if e.uid not in reached]
        found.sort(key=lambda pair: pair[0])
        return found

    def children(self, key: Key, uid: str) -> tuple[Manifest, ...]:
        """The objects of `below`, in the order of their keys."""
        return tuple(entry.body for _, entry in self.below(key, uid))

    def departed(self, key: Key, uid: str) -> tuple[Manifest, ...]:
        """The last states of what belonged to this very resource, in the order of their going."""
        if not self._departed:
            return ()
        controllers = [uid, *(entry.uid for _, entry in self.below(key, uid))]
        found = [pair for controller in controllers for pair in self._departed.get(controller, ())]
        return tuple(entry.body for _, entry in sorted(found, key=lambda pair: pair[0]))

    def rest(self, before: float) -> None:
        """Packs the objects that did not change since `before` (monotonic seconds), and forgets departed ones."""
        # Insertion order is not the order of time (a changed object keeps its place), so all are looked at;
        # only objects that changed lately are in here.
        for key in [k for k, changed in self._unpacked.items() if changed < before]:
            del self._unpacked[key]
            self._entries[key].pack()
        for controller, gone in list(self._departed.items()):
            left = [pair for pair in gone if pair[0] >= before - REMEMBERED]
            if left:
                self._departed[controller] = left
            else:
                del self._departed[controller]

    def missing_from(self, kind: str, uids: Iterable[str], version: int, namespace: str | None) -> list[Key]:
        """Objects that a listing of `kind` made at `version` should have named and did not: they are gone."""
        known = set(uids)
        return [
            key
            for key, entry in self._entries.items()
            if key.kind == kind
            and entry.uid not in known
            and entry.version <= version
            and (namespace is None or key.namespace == namespace)
        ]


def summary(obj: Manifest) -> dict[str, Any]:
    """What names an object in a log line."""
    metadata = obj["metadata"]
    return {"kind": obj.get("kind"), "namespace": metadata.get("namespace"), "name": metadata.get("name")}
