"""What happens to a request before a server is asked, and what is written down when it ends."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from operator import attrgetter

from modelyard.contract.gateway import GatewayConfig

from modelyard_gateway.cache.key import make_key
from modelyard_gateway.cache.store import Cache, Flight, Kept, Key
from modelyard_gateway.limits.keys import Keys
from modelyard_gateway.limits.rates import Rates
from modelyard_gateway.local.looks import is_preflight
from modelyard_gateway.local.routes import Routes
from modelyard_gateway.proxy.client import Client
from modelyard_gateway.proxy.dispatcher import Dispatcher
from modelyard_gateway.proxy.exchange import Exchange
from modelyard_gateway.telemetry import metrics as outcomes
from modelyard_gateway.telemetry.log import AccessLog, describe
from modelyard_gateway.telemetry.metrics import NO_REVISION, Metrics
from modelyard_gateway.wire.refusal import Refusal
from modelyard_gateway.wire.request import Reader, RequestHead

_MOST_CLIENTS = 5000  # connections: each costs some 22 kB where nothing is sent
_MANY_CLIENTS = 4500  # of more, those that nobody used for longest make room
_UNREAD_IN_ALL = 64 << 20  # bytes of answers that callers don't read; those that leave the most are ended
_SHORTEST_IDLE = 5.0  # seconds for which a connection is left to whoever may be about to use it

_BEGAN = attrgetter("began")
_ANEW = frozenset((b"no-cache", b"max-age=0"))  # of Cache-Control: browsers that reload say the second
# Outcomes of requests that say nothing of how others that ask the same would be answered.
_UNANSWERED = frozenset((outcomes.GONE, outcomes.TIMEOUT, outcomes.BROKEN, outcomes.UNAVAILABLE))

SUSPENDED = Refusal(503, "the deployment is suspended: spec.suspend is true", again=False)
NO_KEY = Refusal(401, "this model needs an API key: send it as `Authorization: Bearer KEY`")
CROWDED = Refusal(503, "too many connections: come again in some seconds", 5)
WRONG_KEY = Refusal(401, "the API key is not one of this model's")


class Front:
    """All callers of one gateway. `draining`: each answer ends its connection, so that callers find another gateway.

    ahead: bytes that they have sent and that can't be looked at yet.
    """

    def __init__(
        self,
        config: GatewayConfig,
        dispatcher: Dispatcher,
        routes: Routes,
        keys: Keys | None,
        metrics: Metrics,
        log: AccessLog,
    ) -> None:
        self.dispatcher = dispatcher
        self.clients: set[Client] = set()
        self.draining = False
        self.ahead = 0
        self.max_bytes = config.max_request_bytes
        self.too_large = Refusal(
            413, f"the request has more than {self.max_bytes} bytes (traffic.maxRequestBytes)"
        )
        self.cache = Cache(config.cache) if config.cache is not None else None
        # The gateway's keys are not the servers' business.
        self.read_head = Reader(frozenset((b"authorization",)) if keys is not None else frozenset())
        self._config = config
        self._routes = routes
        self._keys = keys
        self._rates = Rates(config.rate_limit) if config.rate_limit is not None else None
        self._checks = config.suspended or keys is not None or config.rate_limit is not None
        self._metrics = metrics
        self._log = log
        # Ids need to be unlike others, not secret; the kernel's random bytes cost as much as parsing the request.
        self._prefix = secrets.token_hex(8).encode()
        self._count = 0
        self._draw: Callable[[int], int] = random.Random(secrets.randbits(64)).getrandbits  # noqa: S311
        self._wall = time.time() - time.monotonic()

    def connected(self, client: Client) -> Refusal | None:
        """There is another caller; why it can't be taken."""
        if len(self.clients) >= _MOST_CLIENTS:
            return CROWDED
        self.clients.add(client)
        return None

    def open(
        self, client: Client, head: RequestHead, name: bytes | None, trace: bytes | None, now: float
    ) -> Exchange:
        """A request has begun. name, trace: the caller's id and trace context for it."""
        if name is None:
            self._count += 1
            name = b"%b-%d" % (self._prefix, self._count)
        if trace is None:
            drawn = b"%048x" % self._draw(192)
            trace = b"00-%b-%b-01" % (drawn[:32], drawn[32:])
        return Exchange(client, head, now, name, trace)

    def admit(self, exchange: Exchange, now: float) -> None:
        """Decides by its head whether a request is taken; answers it if not."""
        head = exchange.head
        route = self._routes.find(head)
        if route is not None:
            exchange.own = route.answer
        if head.length > self.max_bytes:
            exchange.client.refuse(exchange, self.too_large, outcomes.REFUSED)
        elif self._checks and not (route is not None and route.open):
            self._check(exchange, now)

    def _check(self, exchange: Exchange, now: float) -> None:
        client, secret = exchange.client, exchange.head.secret
        if self._keys is not None:
            exchange.caller = self._keys.find(secret)
            if exchange.caller is None and not self._is_free(exchange):
                client.refuse(exchange, NO_KEY if secret is None else WRONG_KEY, outcomes.REFUSED)
                return
        if exchange.own is not None:
            return
        if self._config.suspended:
            self._metrics.unavailable[outcomes.SUSPENDED] += 1
            client.refuse(exchange, SUSPENDED, outcomes.UNAVAILABLE)
        elif self._rates is not None and (wait := self._rates.take(exchange.caller, client.address, now)):
            self._metrics.limited += 1
            refusal = Refusal(429, f"too many requests: come again in {wait} s (traffic.rateLimit)", wait)
            client.refuse(exchange, refusal, outcomes.REFUSED)

    def _is_free(self, exchange: Exchange) -> bool:
        """Browsers' preflights, which can show no key; but nobody wakes a server without one."""
        return (
            exchange.own is None and is_preflight(exchange.head) and self.dispatcher.fleet.count_servers() > 0
        )

    def proceed(self, exchange: Exchange, now: float) -> None:
        """Its body is here, or as much of it as is waited for: answers it, or asks a server."""
        exchange.proceeded = True
        if exchange.own is not None:
            exchange.client.answer(exchange, *exchange.own())
        elif self.cache is None:
            self.dispatcher.dispatch(exchange, now)
        elif not exchange.whole or not self._recall(self.cache, exchange):
            self.dispatcher.dispatch(exchange, now, self.cache.waiting)

    def _recall(self, cache: Cache, exchange: Exchange) -> bool:
        """Answers from what is kept, or lets it wait for another's answer; False where a server is to be asked."""
        head = exchange.head
        # Who asks a server by name may have an answer that isn't everybody's (RFC 9111, section 3.5).
        if head.named or b"no-store" in head.stored:
            return False
        asked = make_key(head, exchange.body(), self.dispatcher.fleet.task())
        revision = self.dispatcher.fleet.draw() if asked is not None else None
        if asked is None or revision is None:
            return False
        exchange.revision = revision
        key = (revision.name, asked)
        anew = not _ANEW.isdisjoint(head.stored)
        kept = None if anew else cache.find(key)
        if kept is not None:
            self._metrics.cache["hit"] += 1
            self._answer_kept(exchange, kept)
            return True
        flight = None if anew else cache.find_flight(key)
        if flight is not None and not self.dispatcher.is_full(cache.waiting):
            cache.follow(flight, exchange)
            return True
        self._lead(cache, exchange, key, not anew and flight is None)
        return False

    def _lead(self, cache: Cache, exchange: Exchange, key: Key, shared: bool) -> None:
        self._metrics.cache["miss"] += 1
        exchange.cached = "miss"
        exchange.flight = cache.begin(key, exchange, shared)

    def _answer_kept(self, exchange: Exchange, kept: Kept) -> None:
        exchange.cached = "hit"
        fields = kept.head.prefix.partition(b"\r\n")[2]
        exchange.client.answer(exchange, kept.head.status, fields, kept.body, outcomes.OK)

    def _land(self, cache: Cache, exchange: Exchange, flight: Flight, outcome: str) -> None:
        """The answer that others wait for is here, or won't come."""
        exchange.flight = None
        now = time.monotonic()
        if outcome in _UNANSWERED:
            self._hand_over(cache, exchange, flight, outcome, now)
            return
        kept = None
        if outcome == outcomes.OK and exchange.server is not None:
            kept = cache.land(flight, exchange.server.revision.name)
        else:
            cache.abandon(flight)
        for follower in cache.disperse(flight):
            if not follower.open:
                continue
            if kept is not None:
                self._metrics.cache["shared"] += 1
                self._answer_kept(follower, kept)
            else:
                self._metrics.cache["miss"] += 1
                follower.cached = "miss"
                self.dispatcher.dispatch(follower, now, cache.waiting)

    def _hand_over(self, cache: Cache, exchange: Exchange, flight: Flight, outcome: str, now: float) -> None:
        """Nobody shall have waited in vain: one of them asks, and the others go on waiting for its answer."""
        if outcome == outcomes.TIMEOUT:  # the time of some is up, too, as they will be told
            before = now - self._config.timeout_seconds
            for late in [one for one in flight.followers if one.began <= before]:
                cache.leave(late)
        while flight.followers:
            if exchange.server is None:
                leader = next(iter(flight.followers))  # the oldest, for the place in line
            else:
                leader = max(flight.followers, key=_BEGAN)  # has the most of its time left
            cache.leave(leader)
            if outcome == outcomes.BROKEN:
                leader.broken = 1  # what made servers fall fells one more, not two
            self._metrics.cache["miss"] += 1
            leader.cached = "miss"
            self.dispatcher.dispatch(leader, now, cache.waiting)
            if leader.open:
                cache.hand_over(flight, leader)
                return
        cache.abandon(flight)

    def leave(self, exchange: Exchange) -> None:
        """Nobody wants its answer any more."""
        self.dispatcher.abandon(exchange)

    def expire(self, exchange: Exchange) -> None:
        """Its time is up."""
        self.dispatcher.expire(exchange)

    def forget_revisions(self) -> None:
        """The weights have changed."""
        if self.cache is not None:
            self.cache.keep_only({revision.name for revision in self.dispatcher.fleet.weighted()})

    def rejected(self, client: Client, refusal: Refusal) -> None:
        """Something came that is no request."""
        self._metrics.see(NO_REVISION, outcomes.REFUSED, 0.0)
        self._log.write(
            {
                "time": time.time(),
                "address": client.address,
                "status": refusal.status,
                "outcome": outcomes.REFUSED,
                "why": refusal.message,
            }
        )

    def account(self, exchange: Exchange, address: str, outcome: str, now: float) -> None:
        """A request has ended, in whatever way."""
        if exchange.stored:
            self.dispatcher.forget(exchange)
        seconds = now - exchange.began
        revision = exchange.server.revision if exchange.server is not None else exchange.revision
        if self.cache is not None:
            if exchange.following is not None:
                self.cache.leave(exchange)
            if exchange.flight is not None:
                self._land(self.cache, exchange, exchange.flight, outcome)
        self._metrics.see(revision.name if revision is not None else NO_REVISION, outcome, seconds)
        self._log.write(describe(exchange, address, outcome, seconds, self._wall + exchange.began))

    def close_idle(self, before: float) -> None:
        """Ends connections on which nothing has happened since then (monotonic seconds)."""
        for client in self._list_idle(before):
            client.transport.close()

    def _list_idle(self, before: float) -> list[Client]:
        return [
            client
            for client in self.clients
            if client.since < before and not client.is_busy() and not client.has_unread()
        ]

    def _make_room(self, now: float) -> None:
        surplus = len(self.clients) - _MANY_CLIENTS
        if surplus <= 0:
            return
        idle = self._list_idle(now - _SHORTEST_IDLE)
        for client in sorted(idle, key=lambda client: client.since)[:surplus]:
            client.transport.close()

    def _end_unread(self) -> None:
        unread = {client: client.transport.get_write_buffer_size() for client in self.clients}
        surplus = sum(unread.values()) - _UNREAD_IN_ALL
        if surplus <= 0:
            return
        for client in sorted(unread, key=unread.__getitem__, reverse=True):
            if client.exchange is not None:
                client.cut(client.exchange, outcomes.GONE)
            else:
                client.transport.abort()
            surplus -= unread[client]
            if surplus <= 0:
                break

    def sweep(self, now: float) -> None:
        """Ends what took too long. To be called some times a second."""
        deadline = now - self._config.timeout_seconds
        for client in list(self.clients):
            client.sweep(now, deadline)
        self._end_unread()
        self._make_room(now)
        self.dispatcher.sweep(now)
        if self._keys is not None:
            self._keys.refresh()
        self._log.flush()
