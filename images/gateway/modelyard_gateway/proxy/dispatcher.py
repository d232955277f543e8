"""Gives requests to servers: at once, from the line, and anew when a server fails."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import cast

from modelyard_gateway.balance.servers import Fleet, Server
from modelyard_gateway.proxy import peers
from modelyard_gateway.proxy.exchange import Exchange
from modelyard_gateway.proxy.upstream import Upstream
from modelyard_gateway.telemetry import metrics as outcomes
from modelyard_gateway.telemetry.load import Load, News
from modelyard_gateway.telemetry.metrics import Metrics
from modelyard_gateway.wire.refusal import Refusal

log = logging.getLogger(__name__)

KEPT = 1 << 20  # bytes of one body that are kept to be sent, or sent again
KEPT_IN_ALL = 64 << 20  # bytes of all such bodies; further ones are sent once

_CONNECT_SECONDS = 2.0
# Of a free connection: shorter than servers keep theirs (uvicorn, and so vLLM, 5 s), so that they don't close one that
# is just being used, which would be the one repeat that a request has.
_IDLE_SECONDS = 4.0
# A request that may have made a server fall is not tried on all of them.
_REPEATS = 1

NO_SERVER = Refusal(503, "no server became ready in time: come again in some seconds", 5)
UNREACHABLE = Refusal(503, "no server could be reached: come again in some seconds", 5)
NO_ROOM = Refusal(503, "all servers were busy for too long: come again in some seconds", 5)
FULL = Refusal(503, "too many requests wait already: come again in a second", 1)
ENDING = Refusal(503, "the gateway stops: ask again", 1)
_LATE = "the model did not answer in time"
HUNG = Refusal(504, _LATE)
SLOW = Refusal(504, _LATE, again=False)  # it would be computed once more, for as long


class Dispatcher:
    """All requests that want a server, have one, or wait in line."""

    def __init__(self, fleet: Fleet, load: Load, news: News, metrics: Metrics, max_queue: int) -> None:
        self.fleet = fleet
        self.kept = 0  # bytes
        self._load = load
        self._news = news
        self._metrics = metrics
        self._max_queue = max_queue
        self._line: OrderedDict[Exchange, None] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()

    def dispatch(self, exchange: Exchange, now: float, beside: int = 0) -> None:
        """A new request: to a server, or to its place in line. beside: requests that wait elsewhere."""
        if not self._line:
            server = self.fleet.choose(now, exchange.revision)
            if server is not None:
                self._load.move(now, 0, 1, 1)
                self._give(exchange, server, now)
                return
        if self.is_full(beside):
            self._turn_away(exchange, FULL, outcomes.FULL)
            return
        self._load.move(now, 1, 0, 1)
        self._wait(exchange)
        self.release(now)

    def is_full(self, beside: int) -> bool:
        """Whether no more may wait."""
        return len(self._line) + beside >= self._max_queue

    def release(self, now: float) -> None:
        """Gives those at the head of the line to servers that have room."""
        while self._line:
            first = next(iter(self._line))
            if not self._place(first, now):
                break
        else:
            return
        if not first.tried:
            return
        # What one server doesn't take is no reason for others to wait.
        for exchange in list(self._line):
            if not self._place(exchange, now) and not exchange.tried:
                return

    def _place(self, exchange: Exchange, now: float) -> bool:
        if exchange.tried and not self.fleet.has_other(exchange.tried):
            exchange.tried = ()
        server = self.fleet.choose(now, exchange.revision, exchange.tried)
        if server is None:
            return False
        del self._line[exchange]
        self._load.move(now, -1, 1)
        self._give(exchange, server, now)
        return True

    def keep(self, exchange: Exchange, size: int) -> bool:
        """So many more bytes of its body are kept; False where there is no room for them."""
        if exchange.stored + size > KEPT or self.kept + size > KEPT_IN_ALL:
            return False
        self.kept += size
        exchange.stored += size
        return True

    def forget(self, exchange: Exchange) -> None:
        """Its body is kept no more: a server has it, and no other will."""
        self.kept -= exchange.stored
        exchange.stored = 0
        exchange.pieces.clear()

    def can_go_elsewhere(self, exchange: Exchange) -> bool:
        """Whether another server may take what this one doesn't; if it is busy, the request waits."""
        return (
            exchange.repeatable
            and exchange.server is not None
            and self.fleet.has_other((*exchange.tried, exchange.server))
        )

    def finished(self, exchange: Exchange, server: Server, connection: Upstream | None) -> None:
        """It has its answer; the connection can be used again, if it is given."""
        now = time.monotonic()
        server.outstanding -= 1
        if connection is not None:
            _free(connection, now)
        self._load.move(now, 0, -1, 0, 1)
        exchange.upstream = None
        exchange.client.finish(exchange, now)
        if self._line:
            self.release(now)

    def failed(
        self, exchange: Exchange, server: Server, reason: str, used: bool = False, why: str = ""
    ) -> None:
        """The server did not answer: it is busy (`busy`), not to be reached (`connect`), or broke off (`reset`).

        used: the connection had carried answers before, so that it may have been its age.
        """
        now = time.monotonic()
        server.outstanding -= 1
        exchange.upstream = None
        if reason != "busy" and not used:
            server.rest(now)
        if not exchange.open:
            self._load.move(now, 0, -1)
            self.release(now)
            return
        if reason == "reset":
            if not exchange.repeatable or exchange.broken >= _REPEATS:
                self._load.move(now, 0, -1)
                self._end(exchange, Refusal(502, why or "the server broke off"), outcomes.BROKEN)
                self.release(now)
                return
            exchange.broken += 1
        if reason != "connect":
            exchange.repeats += 1
        exchange.tried += (server,)
        self._metrics.retries[reason] += 1
        other = self.fleet.choose(now, None, exchange.tried)
        if reason == "busy" or other is None:
            server.pause(now)
        if other is not None:
            self._give(exchange, other, now)
        else:
            if reason != "busy":
                exchange.tried = ()  # by then it may be there again
            self._load.move(now, 1, -1)
            self._wait(exchange)
        self.release(now)

    def broke_off(self, exchange: Exchange, server: Server) -> None:
        """The server broke off in the middle of its answer: so must the gateway, or half would look like the whole."""
        now = time.monotonic()
        server.outstanding -= 1
        exchange.upstream = None
        self._load.move(now, 0, -1)
        exchange.client.cut(exchange, outcomes.BROKEN)
        self.release(now)

    def abandon(self, exchange: Exchange) -> None:
        """Nobody wants the answer any more: its place is free, wherever it stood."""
        now = time.monotonic()
        if exchange in self._line:
            del self._line[exchange]
            self._load.move(now, -1, 0)
        upstream = exchange.upstream
        if upstream is not None:
            upstream.exchange = exchange.upstream = None
            upstream.close()
            upstream.server.outstanding -= 1
            self._load.move(now, 0, -1)
            self.release(now)
        # One whose connection is being made is told when that is done.

    def expire(self, exchange: Exchange) -> None:
        """Its time is up."""
        flight = exchange.following
        asking = exchange if flight is None else flight.leader
        if asking in self._line:
            self._turn_away(exchange, *self._why_waiting())
        elif exchange.status:
            exchange.client.cut(exchange, outcomes.TIMEOUT)
        elif asking.server is not None and asking.upstream is None:  # the connection is being made
            self._turn_away(exchange, UNREACHABLE, outcomes.UNREACHABLE)
        else:
            self._end(exchange, HUNG if self._blame(exchange) else SLOW, outcomes.TIMEOUT)

    def _blame(self, exchange: Exchange) -> bool:
        """Whether its server is at fault: nothing came from it, to anybody, while it had the request most of the time.

        It is left alone then. One that answers others is slow, or has a line of its own; and one must be left that is
        asked.
        """
        now = time.monotonic()
        server = exchange.server
        if server is None or exchange.upstream is None or server.heard != exchange.heard:
            return False
        had = now - max(exchange.given, exchange.client.since)  # the request, as far as it came
        if had < (now - exchange.began) / 2 or not self.fleet.has_better(server):
            return False
        if not server.hangs:
            log.warning("server %s has answered nothing for %.1f s: others are asked", server.name, had)
        server.hang(now)
        return True

    def _why_waiting(self) -> tuple[Refusal, str]:
        if not self.fleet.count_servers():
            return NO_SERVER, outcomes.NO_SERVER
        if not self.fleet.count_reachable():
            return UNREACHABLE, outcomes.UNREACHABLE
        return NO_ROOM, outcomes.NO_ROOM

    def follow_changed(self) -> None:
        """Servers came or went."""
        if self._line and not self.fleet.count_servers():
            self._news.tell()
        self.release(time.monotonic())

    def sweep(self, now: float) -> None:
        """Looks for servers that have rested, and closes connections that nobody used for long."""
        self._load.move(now, 0, 0)
        for revision in self.fleet.revisions.values():
            for server in revision.servers.values():
                # The one used last is at the end.
                while server.idle and cast(Upstream, server.idle[0]).since < now - _IDLE_SECONDS:
                    server.idle.pop(0).close()
        if self._line:
            self.fleet.relieve()
        self.release(now)

    def end_line(self) -> None:
        """Whoever waits is sent away: the gateway stops."""
        while self._line:  # who has waited for one of them comes after it
            self._turn_away(next(iter(self._line)), ENDING, outcomes.STOPPING)

    def _turn_away(self, exchange: Exchange, refusal: Refusal, reason: str) -> None:
        """It gets no server."""
        self._metrics.unavailable[reason] += 1
        self._end(exchange, refusal, outcomes.UNAVAILABLE)

    def _end(self, exchange: Exchange, refusal: Refusal, outcome: str) -> None:
        self.abandon(exchange)
        exchange.client.refuse(exchange, refusal, outcome)

    def _wait(self, exchange: Exchange) -> None:
        if not self._line and not self.fleet.count_servers():
            self._news.tell()
        last = next(reversed(self._line), None)
        self._line[exchange] = None
        if last is not None and last.began > exchange.began:
            # Whoever waits longest is first: of those that a server didn't take, and that waited for another's answer.
            for later in [waiting for waiting in self._line if waiting.began > exchange.began]:
                self._line.move_to_end(later)

    def _give(self, exchange: Exchange, server: Server, now: float) -> None:
        self.fleet.take(server)
        exchange.server, exchange.given, exchange.heard = server, now, server.heard
        # One that failed gets a new connection: of a server that dies the others are dead too, if not known to be.
        # So does one that can't be sent again: the server may just be closing one for its age.
        idle = server.idle if exchange.repeatable and not exchange.broken else []
        while idle:
            connection = cast(Upstream, idle.pop())
            if not connection.transport.is_closing():
                self._send(exchange, connection)
                return
        task = self._loop.create_task(self._connect(exchange, server))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _send(self, exchange: Exchange, connection: Upstream) -> None:
        if not exchange.whole:
            exchange.client.resume()
        connection.send(exchange)
        if not exchange.repeatable:
            self.forget(exchange)

    async def _connect(self, exchange: Exchange, server: Server) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: Upstream(self, server), *server.address
                )
            if connection.transport.is_closing():
                raise ConnectionResetError
        except OSError:  # TimeoutError is one
            self.failed(exchange, server, "connect")
            return
        peers.watch(connection.transport)
        self._metrics.opened()
        if exchange.open:
            self._send(exchange, connection)
            return
        now = time.monotonic()
        server.outstanding -= 1
        self._load.move(now, 0, -1)
        _free(connection, now)
        self.release(now)


def _free(connection: Upstream, now: float) -> None:
    """It can be used again."""
    connection.since = now
    if connection.server.present:
        connection.server.idle.append(connection)
    else:
        connection.close()
