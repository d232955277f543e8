"""Makes kopf keep nothing.

For every event, also of kinds that have no change handlers, kopf copies the whole object twice over to find
out what has changed since a state that it would store. We ask for no changes; without the copies an event
costs half the CPU.
"""

from __future__ import annotations

from typing import Any

import kopf


class NoDiffBase(kopf.DiffBaseStorage):
    """Remembers no earlier state and extracts no present one."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing is essential."""
        return {}

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing is to be stored."""


class NoProgress(kopf.ProgressStorage):
    """Handlers that are called once per event have no progress."""

    def fetch(self, **_: Any) -> Any:
        """Nothing was stored."""
        return None

    def store(self, **_: Any) -> None:
        """Nothing is to be stored."""

    def purge(self, **_: Any) -> None:
        """Nothing is to be removed."""

    def touch(self, **_: Any) -> None:
        """Nothing is to be touched."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """There is nothing of kopf's in it."""
        return essence
