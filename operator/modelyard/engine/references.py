"""Which custom resources the plans of others hang on: an index from the named to those who name them.

It is made of what plans say, so after a restart it is there again once each resource has been looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelyard.engine.kinds import Kinds
from modelyard.engine.plan import Key


class References:
    """What each resource refers to, and who refers to it."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._named: dict[Key, frozenset[Key]] = {}
        self._referrers: dict[Key, set[Key]] = {}

    def name(self, key: Key, named: frozenset[Key]) -> bool:
        """Says what `key` refers to from now on. Returns whether there is anything among it that was not before.

        Raises ValueError for what no plan may read: another namespace's resources, and objects that are not watched
        whole.
        """
        before = self.named_by(key)
        if named == before:
            return False
        for reference in named - before:
            if reference.namespace != key.namespace or not self._kinds.is_primary(reference.kind):
                raise ValueError(f"{key} can't refer to {reference}")
        for reference in named - before:
            self._referrers.setdefault(reference, set()).add(key)
        for reference in before - named:
            self._unlink(reference, key)
        if named:
            self._named[key] = named
        else:
            del self._named[key]
        return not named <= before

    def forget(self, key: Key) -> None:
        """`key` is gone, and refers to nothing. Others may still refer to it."""
        for reference in self._named.pop(key, ()):
            self._unlink(reference, key)

    def named_by(self, key: Key) -> frozenset[Key]:
        """What `key` refers to."""
        return self._named.get(key, frozenset())

    def referrers(self, key: Key) -> Iterable[Key]:
        """Who refers to `key`."""
        return self._referrers.get(key, ())

    def _unlink(self, reference: Key, key: Key) -> None:
        left = self._referrers[reference]
        left.discard(key)
        if not left:
            del self._referrers[reference]
