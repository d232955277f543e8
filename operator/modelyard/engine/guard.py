"""Read your writes: what the operator wrote is true for it at once, not when the watch comes round to it.

The answer of a write goes into the cache; older events that the watch still holds are ignored. So a pass
never decides on what it has already changed, and the watch's echo of an own write is no news. If the echo
stays away for 5 seconds, a watch may be slow or lost, or the object gone again: then the server is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelyard.engine.cache import Cache
from modelyard.engine.kinds import key_of, version_of
from modelyard.engine.plan import Key, Manifest
from modelyard.engine.ports import Clock

PATIENCE = 5.0


@dataclass(slots=True)
class _Expectation:
    """`version` None expects the object's removal."""

    uid: str
    version: int | None
    deadline: float


class Guard:
    """Stands between the watches and the cache."""

    def __init__(
        self, cache: Cache, clock: Clock, overdue: Callable[[str], object], patience: float = PATIENCE
    ) -> None:
        """`overdue` is called with the kind of objects whose echo stayed away, to have them listed."""
        self._cache = cache
        self._clock = clock
        self._overdue = overdue
        self._patience = patience
        self._expected: dict[Key, _Expectation] = {}
        self._sweeping = False

    def wrote(self, answer: Manifest) -> tuple[Key, ...]:
        """Takes in the answer of an own write. Returns the custom resources to look at again.

        The watch's echo will be no news, so this is the only time at which others than the writer hear of it.
        """
        concerned = self._cache.put(answer, self._clock.monotonic())
        if concerned is None:
            return ()
        self._expect(key_of(answer), answer["metadata"].get("uid", ""), version_of(answer))
        return concerned

    def deleted(self, key: Key, uid: str) -> None:
        """An own delete took effect. The watch may have told of it before the answer came: then nothing is awaited."""
        known = self._cache.entry(key)
        if known is None or known.uid != uid:
            return
        self._cache.remove(key)
        self._expect(key, uid, None)

    def observe(self, event: str | None, obj: Manifest, *, at_rest: bool = False) -> tuple[Key, ...]:
        """Takes in what a watch says. Returns the custom resources to look at again; none where it is no news."""
        key = key_of(obj)
        expected = self._expected.get(key)
        if expected is not None:
            if not self._is_echo(expected, event, obj):
                return ()
            del self._expected[key]
        if event == "DELETED":
            return self._cache.depart(obj, self._clock.monotonic())
        return self._cache.put(obj, self._clock.monotonic(), at_rest=at_rest) or ()

    def _is_echo(self, expected: _Expectation, event: str | None, obj: Manifest) -> bool:
        """Whether the watch has come as far as the own write."""
        if obj["metadata"].get("uid", "") != expected.uid:
            # Of a removed object anything of another uid is later; of a written one it is what was there
            # before, unless its version says otherwise.
            return expected.version is None or version_of(obj) > expected.version
        if event == "DELETED":
            return True
        return expected.version is not None and version_of(obj) >= expected.version

    def _expect(self, key: Key, uid: str, version: int | None) -> None:
        self._expected.pop(key, None)  # so that the order of insertion is the order of deadlines
        self._expected[key] = _Expectation(uid, version, self._clock.monotonic() + self._patience)
        if not self._sweeping:
            self._sweeping = True
            self._clock.call_later(self._patience, self._sweep)

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        self._sweeping = False
        doubtful: set[str] = set()
        while self._expected:
            key, expected = next(iter(self._expected.items()))
            if expected.deadline > now:
                self._sweeping = True
                self._clock.call_later(expected.deadline - now, self._sweep)
                break
            del self._expected[key]
            doubtful.add(key.kind)
        for kind in doubtful:
            self._overdue(kind)
