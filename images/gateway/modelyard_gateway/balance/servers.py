"""Servers and revisions as the gateway knows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

Address = tuple[str, int]

_FIRST_REST = 0.5  # seconds for which a server is left alone that could not be reached; doubled each time
_LONGEST_REST = 8.0
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Target:
    """A revision as it is told: percent of the requests, requests that one server takes (0: any), ready servers.

    task: what its model is for; speaks: builtin, vllm, openai or oip. "" where that isn't told.
    """

    weight: int
    concurrency: int
    addresses: frozenset[Address]
    task: str = ""
    speaks: str = ""


class Connection(Protocol):
    """A connection to a server that is free."""

    def close(self) -> None:
        """Ends it."""


class Server:
    """One server. `outstanding`: requests that it has now, `limit` at most; `idle`: connections, the one used last at
    the end. heard: how often anything came from it. hangs: nothing came for too long, to nobody.
    """

    __slots__ = (
        "_told",
        "address",
        "failures",
        "hangs",
        "heard",
        "idle",
        "limit",
        "name",
        "outstanding",
        "present",
        "rests_until",
        "revision",
        "turn",
    )

    def __init__(self, address: Address, revision: Revision) -> None:
        self.address = address
        self.revision = revision
        self.name = f"{address[0]}:{address[1]}"
        self.limit = self._told = float("inf")
        self.heard = 0
        self.hangs = False
        self.outstanding = 0
        self.turn = 0
        self.failures = 0
        self.rests_until = 0.0
        self.present = True
        self.idle: list[Connection] = []

    def rest(self, now: float) -> None:
        """It could not be reached: it is left alone for a while. What else fails meanwhile has the same cause."""
        if self.failures and now < self.rests_until:
            return
        self.rests_until = now + min(_LONGEST_REST, _FIRST_REST * 2**self.failures)
        self.failures = min(self.failures + 1, 10)

    def hang(self, now: float) -> None:
        """It takes requests and answers none: after its rest it gets one at a time, until anything comes from it."""
        self.rest(now)
        self.hangs, self.limit = True, 1

    def allow(self, limit: float) -> None:
        """So many requests at a time."""
        self._told = limit
        if not self.hangs:
            self.limit = limit

    def pause(self, now: float) -> None:
        """It broke off, or takes none: if it dies, its port takes connections for some milliseconds more."""
        self.rests_until = max(self.rests_until, now + _PAUSE)

    def answered(self) -> None:
        """It is there."""
        self.failures = 0
        self.rests_until = 0.0
        self.hangs, self.limit = False, self._told

    def close_idle(self) -> None:
        """Ends all free connections."""
        while self.idle:
            self.idle.pop().close()


@dataclass(slots=True)
class Revision:
    """A revision and its ready servers. `credit` is its claim to the next request."""

    name: str
    weight: int = 0
    task: str = ""
    speaks: str = ""
    credit: int = 0
    servers: dict[Address, Server] = field(default_factory=dict)


class Fleet:
    """All revisions that are followed."""

    def __init__(self) -> None:
        self.revisions: dict[str, Revision] = {}
        self.spoken: frozenset[str] = frozenset()  # what those with a weight speak, "" among it
        self._weighted: list[Revision] = []
        self._leaving: dict[tuple[str, Address], Server] = {}  # that still have requests
        self._turn = 0

    def follow(self, targets: dict[str, Target]) -> bool:
        """Takes over what is told; whether that changes any weight.

        Servers that are gone finish what they have, and are the same if they come back meanwhile: readiness may flap.
        """
        before = self.weights()
        self._leaving = {key: server for key, server in self._leaving.items() if server.outstanding}
        for name in self.revisions.keys() - targets.keys():
            self._resize(self.revisions.pop(name), frozenset())
        for name, target in targets.items():
            revision = self.revisions.setdefault(name, Revision(name))
            revision.weight, revision.task, revision.speaks = target.weight, target.task, target.speaks
            self._resize(revision, target.addresses)
            for server in revision.servers.values():
                server.allow(target.concurrency or float("inf"))
        self._weighted = [revision for _, revision in sorted(self.revisions.items()) if revision.weight > 0]
        self.spoken = frozenset(revision.speaks for revision in self._weighted)
        changed = self.weights() != before
        if changed:
            for revision in self.revisions.values():
                revision.credit = 0
        return changed

    def weights(self) -> dict[str, int]:
        """Percent of the requests, by revision."""
        return {name: revision.weight for name, revision in self.revisions.items()}

    def task(self) -> str | None:
        """What the model is for; None where no revision tells."""
        return next((revision.task for revision in self._weighted if revision.task), None)

    def weighted(self) -> list[Revision]:
        """Those that get requests."""
        return self._weighted

    def count_servers(self) -> int:
        """Ready servers that get requests."""
        return sum(len(revision.servers) for revision in self._weighted)

    def count_reachable(self) -> int:
        """Those of them that could be reached when that was last tried."""
        return sum(not server.failures for revision in self._weighted for server in revision.servers.values())

    def has_other(self, tried: tuple[Server, ...]) -> bool:
        """Whether there is a ready server beside these, be it busy."""
        return any(server not in tried for revision in self._weighted for server in revision.servers.values())

    def has_better(self, server: Server) -> bool:
        """Whether there is another ready server, none that failed when it was last tried."""
        return any(
            other is not server and not other.failures
            for revision in self._weighted
            for other in revision.servers.values()
        )

    def relieve(self) -> None:
        """Where no server is left but those that failed, to leave alone those that hang helps nobody."""
        if not self.count_reachable():
            for revision in self._weighted:
                for server in revision.servers.values():
                    if server.hangs:
                        server.answered()

    def draw(self) -> Revision | None:
        """The revision whose turn it is, whether it has servers or not; None where none has a weight."""
        return _draw(self._weighted)

    def choose(
        self, now: float, revision: Revision | None = None, tried: tuple[Server, ...] = ()
    ) -> Server | None:
        """A server with room that isn't in `tried`: of that revision, or of the one whose turn it is.

        Revisions without a server that could take it are passed over: a request that can be answered doesn't wait.
        """
        if revision is not None:
            found = self._least(revision, now, tried)
            if found is not None:
                return found
        elif len(self._weighted) == 1:
            return self._least(self._weighted[0], now, tried)
        able = {r.name: s for r in self._weighted if (s := self._least(r, now, tried)) is not None}
        chosen = _draw([r for r in self._weighted if r.name in able])
        return able[chosen.name] if chosen is not None else None

    def _least(self, revision: Revision, now: float, tried: tuple[Server, ...]) -> Server | None:
        """The one with the fewest requests; of those, the one whose last turn is longest ago."""
        best: Server | None = None
        for server in revision.servers.values():
            outstanding = server.outstanding
            if outstanding >= server.limit or server.rests_until > now or server in tried:
                continue
            if (
                best is None
                or outstanding < best.outstanding
                or (outstanding == best.outstanding and server.turn < best.turn)
            ):
                best = server
        return best

    def take(self, server: Server) -> None:
        """The server gets a request."""
        self._turn += 1
        server.turn = self._turn
        server.outstanding += 1

    def _resize(self, revision: Revision, addresses: Iterable[Address]) -> None:
        before = revision.servers
        revision.servers = {
            address: before.get(address) or self._join(revision, address) for address in sorted(addresses)
        }
        for address in before.keys() - revision.servers.keys():
            server = before[address]
            server.present = False
            server.close_idle()
            if server.outstanding:
                self._leaving[revision.name, address] = server

    def _join(self, revision: Revision, address: Address) -> Server:
        server = self._leaving.pop((revision.name, address), None)
        if server is None:
            return Server(address, revision)
        server.present, server.revision = True, revision
        return server


def _draw(revisions: list[Revision]) -> Revision | None:
    """Smooth weighted round-robin, as nginx has it: of every 100 requests each gets its percent, evenly."""
    if not revisions:
        return None
    if len(revisions) == 1:
        return revisions[0]
    best = revisions[0]
    for revision in revisions:
        revision.credit += revision.weight
        if revision.credit > best.credit:
            best = revision
    best.credit -= sum(revision.weight for revision in revisions)
    return best
