"""The answers themselves, and the requests that wait for one of another."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelyard.contract.gateway import CacheConfig

from modelyard_gateway.wire.response import ResponseHead

if TYPE_CHECKING:
    from modelyard_gateway.proxy.exchange import Exchange

Key = tuple[str, bytes]  # a revision, and what the request asks

LONGEST_ANSWER = 256 << 10  # bytes
LARGEST = 64 << 20  # bytes of all answers


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer. expires: monotonic seconds."""

    head: ResponseHead
    body: bytes
    expires: float


class Flight:
    """A request that others wait for, who ask the same. `pieces` of its answer: None where that can't be kept."""

    __slots__ = ("followers", "head", "key", "leader", "pieces", "size")

    def __init__(self, key: Key, leader: Exchange) -> None:
        self.key = key
        self.leader = leader
        self.followers: dict[Exchange, None] = {}
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] | None = []
        self.size = 0

    def begin(self, head: ResponseHead) -> None:
        """The answer's head."""
        self.head = head
        if head.status != 200 or head.private or head.media == b"text/event-stream":
            self.pieces = None

    def add(self, pieces: list[bytes]) -> None:
        """More of its body."""
        if self.pieces is not None:
            self.pieces += pieces
            self.size += sum(map(len, pieces))
            if self.size > LONGEST_ANSWER:
                self.pieces = None


class Cache:
    """Answers, the one used last at the end, and flights by what they ask."""

    def __init__(self, config: CacheConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._flights: dict[Key, Flight] = {}
        self.bytes = 0
        self.waiting = 0  # requests that follow another

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: Key) -> Kept | None:
        """The answer, if it is kept and not too old."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.expires <= self._clock():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def find_flight(self, key: Key) -> Flight | None:
        """The request under way that asks the same."""
        return self._flights.get(key)

    def begin(self, key: Key, leader: Exchange, shared: bool) -> Flight:
        """A request that asks a server. shared: others may wait for its answer."""
        flight = Flight(key, leader)
        if shared:
            self._flights[key] = flight
        return flight

    def follow(self, flight: Flight, exchange: Exchange) -> None:
        """It waits for that one's answer."""
        flight.followers[exchange] = None
        exchange.following = flight
        self.waiting += 1

    def leave(self, exchange: Exchange) -> None:
        """It waits no more."""
        if exchange.following is not None:
            del exchange.following.followers[exchange]
            exchange.following = None
            self.waiting -= 1

    def hand_over(self, flight: Flight, exchange: Exchange) -> None:
        """Its answer won't come: one of those who wait for it asks anew, for all of them."""
        flight.leader, exchange.flight = exchange, flight
        flight.head, flight.pieces, flight.size = None, [], 0

    def disperse(self, flight: Flight) -> list[Exchange]:
        """Those who have waited for it, first come first."""
        followers = list(flight.followers)
        for exchange in followers:
            self.leave(exchange)
        return followers

    def land(self, flight: Flight, revision: str) -> Kept | None:
        """It has its whole answer, of this revision (another one where a server failed). Kept, if it may be."""
        head, pieces = flight.head, flight.pieces
        self.abandon(flight)
        if head is None or pieces is None:
            return None
        body = b"".join(pieces)
        kept = Kept(head, body, self._clock() + min(self._config.ttl_seconds, head.lasts))
        key = (revision, flight.key[1])
        self._drop(key)
        self._kept[key] = kept
        self.bytes += len(body)
        while len(self._kept) > self._config.max_entries or self.bytes > LARGEST:
            self._drop(next(iter(self._kept)))
        return kept if revision == flight.key[0] else None

    def abandon(self, flight: Flight) -> None:
        """Nobody else shall wait for it."""
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]

    def keep_only(self, revisions: Container[str]) -> None:
        """Forgets what revisions said that get no requests any more."""
        for key in [key for key in self._kept if key[0] not in revisions]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= len(kept.body)
