"""The objects as the watches tell of them, which belongs below which custom resource, and who hangs on which."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from modelyard.engine.kinds import Kind, Kinds, controller_uid, key_of, version_of
from modelyard.engine.managed import keep_scale_writers
from modelyard.engine.packing import Packed, Packer
from modelyard.engine.plan import Key, Manifest
from modelyard.engine.references import References
from modelyard.engine.urgency import Urgency, urgency

log = logging.getLogger(__name__)

# Seconds for which the last state of a deleted object stays known: enough for any pass to take it over, also
# for one that has to be repeated while the API server is in trouble.
REMEMBERED = 600.0


class Entry:
    """One object, at rest if it is packed."""

    __slots__ = (
        "_body", "controller", "digest", "ending", "kind", "namespace", "news", "owners", "uid", "urgency", "version",
    )  # fmt: skip

    def __init__(
        self,
        obj: Manifest,
        owners: tuple[Key, ...],
        digest: Mapping[str, Any] | None = None,
        news: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        metadata = obj["metadata"]
        self._body: Manifest | Packed = obj
        self.kind: str = obj["kind"]
        self.namespace: str = metadata.get("namespace", "")
        self.uid: str = metadata.get("uid", "")
        self.version = version_of(obj)
        self.controller = controller_uid(obj)
        self.ending = "deletionTimestamp" in metadata
        self.owners = owners
        self.digest = digest
        self.news = news
        self.urgency = Urgency.AT_REST  # of a resource; read where all are looked at

    def says_the_same(self, other: Entry) -> bool:
        """Whether an owner's plan would read the same of both."""
        if (self.uid, self.owners, self.ending) != (other.uid, other.owners, other.ending):
            return False
        if self.news is not None:
            return _read(self.body, self.news) == _read(other.body, self.news)
        return self.digest is not None and self.digest == other.digest

    @property
    def body(self) -> Manifest:
        """The object. Nobody may change it."""
        body = self._body  # read once: metrics are rendered in another thread, and it may be packed meanwhile
        return body.unpack() if isinstance(body, Packed) else body

    def pack(self, packer: Packer) -> None:
        """Lays the object to rest."""
        if not isinstance(self._body, Packed):
            self._body = packer.pack(self.kind, self._body)


class Cache:
    """Objects by key, and an index from custom resources to what carries their label."""

    def __init__(self, kinds: Kinds) -> None:
        self.references = References(kinds)
        self.served: frozenset[str] = frozenset()  # the optional kinds that the cluster has at present
        self._kinds = kinds
        self._packer = Packer()
        self._entries: dict[Key, Entry] = {}
        self._below: dict[Key, set[Key]] = {}
        self._unpacked: dict[Key, float] = {}
        self._uids: dict[str, set[str]] = {kind.name: set() for kind in kinds}
        # By the uid of their controller, with when they went (monotonic seconds).
        self._departed: dict[str, list[tuple[float, Entry]]] = {}

    def put(self, obj: Manifest, now: float, *, at_rest: bool = False) -> tuple[Key, ...] | None:
        """Takes an object in. Returns the custom resources to look at again.

        None where it is no news: an older or equal version. `now` is monotonic seconds; `at_rest` packs the object at
        once.
        """
        key = key_of(obj)
        old = self._entries.get(key)
        version = version_of(obj)
        if old is not None and version and old.version >= version:
            return None
        keep_scale_writers(obj["metadata"])
        kind = self._kinds[key.kind]
        entry = Entry(obj, self._kinds.owners(obj), _digest(kind, key, obj), kind.news)
        if self._kinds.is_primary(key.kind):
            entry.urgency = urgency(obj)
        concerned = self._concerned(key, entry, old)
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
            entry.pack(self._packer)
            self._unpacked.pop(key, None)
        else:
            self._unpacked[key] = now
        return concerned

    def remove(self, key: Key) -> None:
        """Forgets an object."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._unlink(key, entry)
            self._unpacked.pop(key, None)
            self._uids[key.kind].discard(entry.uid)
            self._departed.pop(entry.uid, None)

    def depart(self, obj: Manifest, now: float) -> tuple[Key, ...]:
        """Forgets an object whose deletion the watch tells of, but for its last state if that is remembered.

        Returns the custom resources to look at again. `now` is monotonic seconds. What the cache has under that name
        by now may be another object, already put in its place by an own write: that one stays.
        """
        key = key_of(obj)
        entry = Entry(obj, self._kinds.owners(obj))
        known = self._entries.get(key)
        if known is not None and known.uid == entry.uid:
            self.remove(key)
            if known.controller is not None and self._kinds[key.kind].remembered:
                entry.pack(self._packer)
                self._departed.setdefault(known.controller, []).append((now, entry))
        return self._concerned(key, entry, known)

    def _concerned(self, key: Key, entry: Entry, before: Entry | None) -> tuple[Key, ...]:
        """Itself, those that it is or was below, and those that refer to it."""
        own = (key,) if self._kinds.is_primary(key.kind) else ()
        owners = entry.owners
        if before is not None:
            if entry.says_the_same(before):
                owners = ()
            elif before.owners != owners:
                owners = tuple(dict.fromkeys((*owners, *before.owners)))
        referrers = self.references.referrers(key)
        return (*own, *owners, *referrers) if own or referrers else owners

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

    def urgency(self, key: Key) -> Urgency:
        """How soon a resource wants to be looked at; one that went meanwhile is nobody's hurry."""
        entry = self._entries.get(key)
        return entry.urgency if entry is not None else Urgency.AT_REST

    def count(self, kind: str) -> int:
        """How many objects of one kind there are."""
        return len(self._uids[kind])

    def has(self, kind: str, uid: str) -> bool:
        """Whether an object of that kind and uid is known."""
        return uid in self._uids[kind]

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

    def children(self, key: Key, uid: str) -> tuple[tuple[Manifest, ...], dict[str, Mapping[str, Any]]]:
        """What an owner's plan sees of `below`, in the order of the keys: the objects, and the digests by their ids."""
        bodies: list[Manifest] = []
        digests: dict[str, Mapping[str, Any]] = {}
        for child, entry in self.below(key, uid):
            if entry.digest is None:
                bodies.append(entry.body)
            else:
                digests[f"{child.kind}/{child.name}"] = entry.digest
        return tuple(bodies), digests

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
            self._entries[key].pack(self._packer)
        for controller, gone in list(self._departed.items()):
            left = [pair for pair in gone if pair[0] >= before - REMEMBERED]
            if left:
                self._departed[controller] = left
            else:
                del self._departed[controller]

    def missing_from(
        self, kind: str, uids: Iterable[str], version: int | None, namespace: str | None
    ) -> list[Key]:
        """Objects that a listing of `kind`, made at `version`, should have named and did not: they are gone.

        Without a version it is of just now.
        """
        known = set(uids)
        return [
            key
            for key, entry in self._entries.items()
            if key.kind == kind
            and entry.uid not in known
            and (version is None or entry.version <= version)
            and (namespace is None or key.namespace == namespace)
        ]


def _read(obj: Manifest, news: Callable[[Mapping[str, Any]], Any]) -> tuple[Any, ...]:
    """All that plans may read of an object. Its spec has another number only where it says something else."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "generation")}
    rest = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
    return rest, metadata, news(obj.get("status") or {})


def _digest(kind: Kind, key: Key, obj: Manifest) -> Mapping[str, Any] | None:
    """The digest; an empty one where the function fails, so that the object is there at least."""
    if kind.digest is None:
        return None
    try:
        return kind.digest(obj)
    except Exception:
        log.exception("digest failed", extra={"key": str(key)})
        return {}
