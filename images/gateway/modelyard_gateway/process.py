"""The life of a gateway's process: follow, listen, and drain when it is asked to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
import time
from collections.abc import AsyncIterator
from typing import Self

from aiohttp import web
from modelyard.contract import codes

from modelyard_gateway.admin import Admin
from modelyard_gateway.balance.servers import Fleet, Target
from modelyard_gateway.follow.memory import Memory
from modelyard_gateway.follow.watch import Watch
from modelyard_gateway.limits.keys import Keys
from modelyard_gateway.local.routes import Routes
from modelyard_gateway.local.status import Status
from modelyard_gateway.proxy.client import Client
from modelyard_gateway.proxy.dispatcher import Dispatcher
from modelyard_gateway.proxy.front import SUSPENDED, Front
from modelyard_gateway.settings import Settings
from modelyard_gateway.telemetry.load import Load, News
from modelyard_gateway.telemetry.log import AccessLog
from modelyard_gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 0.2
_BACKLOG = 4096
_LINGERING = 15.0  # seconds that a connection must have been idle to be closed before the end of the drain
_PATIENCE = 60.0  # seconds until a caller whose machine has vanished is given up


class Process:
    """One gateway, from start to end. To be made in a running loop."""

    def __init__(self, settings: Settings, log: AccessLog | None = None) -> None:
        self._settings = settings
        config = settings.config
        self.fleet = Fleet()
        self.news, self.metrics = News(), Metrics()
        self.load = Load(begins=self.news.tell)
        self.dispatcher = Dispatcher(self.fleet, self.load, self.news, self.metrics, config.max_queue)
        routes = Routes(
            config,
            self.fleet,
            self.why_refusing,
            Status(config, self.fleet, self.load, self.metrics, self.why_refusing),
        )
        keys = Keys(settings.keys) if config.keys else None
        if keys is not None:
            keys.refresh()
        self.front = Front(config, self.dispatcher, routes, keys, self.metrics, log or AccessLog())
        self.port = self.admin_port = 0
        self.watch = Watch(
            settings.api, settings.account, config.namespace, config.deployment, self._follow, self.news.tell
        )
        self._memory = Memory(settings.scratch / "servers.json")
        self._known = False  # which servers there are
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.metrics.gauge("queued_requests", "Requests that wait for a server.", lambda: self.load.queued)
        self.metrics.gauge("running_requests", "Requests that a server has.", lambda: self.load.running)
        self.metrics.gauge("servers", "Ready servers that get requests.", self.fleet.count_servers)
        self.metrics.gauge(
            "follows",
            "1 while it hears of changes of its servers; 0 while something keeps it from that.",
            lambda: self.watch.trouble is None,
        )
        self.metrics.gauge("connections", "Callers' connections.", lambda: len(self.front.clients))

    async def run(self) -> None:
        """Serves until it is asked to stop. Raises OSError where a port can't be had."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        async with self.serving():
            await self._stopping.wait()
            await self._drain()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Follows and listens."""
        settings = self._settings
        remembered = self._memory.load()
        if remembered is not None:
            self.take(remembered)
        config = settings.config
        runner = web.AppRunner(
            Admin(
                lambda: self.load.report(self.fleet.weights(), self.watch.trouble),
                self.news,
                self.metrics,
                self.why_unready,
            ).make_app(),
            access_log=None,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        admin = listen(settings.admin_port)
        callers = listen(settings.port, max(_PATIENCE, config.timeout_seconds))
        self.admin_port, self.port = admin.getsockname()[1], callers.getsockname()[1]
        await web.SockSite(runner, admin).start()
        server = self._server = await asyncio.get_running_loop().create_server(
            lambda: Client(self.front), sock=callers, backlog=_BACKLOG
        )
        tasks = [asyncio.create_task(self.watch.run()), asyncio.create_task(self._sweep())]
        for task in tasks:
            task.add_done_callback(_tell_failure)
        log.info("listening on ports %d and %d", self.port, self.admin_port)
        # Nothing of a request lives in cycles: a rare look is enough, and none at what is there from the start.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            for client in list(self.front.clients):
                client.transport.abort()
            self.news.tell()
            await runner.cleanup()
            self.front.sweep(time.monotonic())

    def stop(self) -> None:
        """Begins to drain; a second call ends it at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def why_unready(self) -> str | None:
        """Why no callers should come; None where they should, and be it to hear that the deployment is suspended."""
        if self.front.draining:
            return "the gateway stops"
        return None if self._known else "the gateway doesn't know yet which servers there are"

    def why_refusing(self) -> str | None:
        """Why no requests are taken; None while they are."""
        return SUSPENDED.message if self._settings.config.suspended else self.why_unready()

    async def _drain(self) -> None:
        """Goes on accepting for a little, then closes the port and lets finish what runs.

        Whatever `drain_seconds` is: one that was accepted in the last moment has all of them. An answer ends its
        connection. One that is idle may be used just when it is closed, and its caller can't know whether that was
        heard: so it is left for a while, after which a use is less likely.
        """
        log.info("draining")
        self.front.draining = True
        await self._pause(codes.ANNOUNCE_SECONDS)
        if self._server is not None:
            self._server.close()
        end = time.monotonic() + self._settings.config.drain_seconds
        while self.front.clients and time.monotonic() < end and not self._hurry.is_set():
            self.front.close_idle(time.monotonic() - _LINGERING)
            await self._pause(0.05)
        self.dispatcher.end_line()
        log.info("ending")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    def _follow(self, targets: dict[str, Target]) -> None:
        self.take(targets)
        self._memory.store(targets)

    def take(self, targets: dict[str, Target]) -> None:
        """These are the revisions and their servers."""
        self._known = True
        self.metrics.followed = frozenset(targets)
        if self.fleet.follow(targets):
            self.front.forget_revisions()
            self.news.tell()
        self.dispatcher.follow_changed()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.front.sweep(time.monotonic())


def listen(port: int, patience: float = _PATIENCE) -> socket.socket:
    """A socket on all addresses, of both kinds where the pod has both; 0 takes any free port. Raises OSError.

    patience: seconds for which a peer may take nothing of what it is sent.
    """
    if socket.has_dualstack_ipv6():
        made = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    else:
        made = socket.create_server(("", port), backlog=_BACKLOG)
    # Callers' connections inherit it: a machine that has vanished says nothing, and the kernel finds out.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(patience * 1000))
    return made


def _tell_failure(task: asyncio.Task[None]) -> None:
    """A task that should go on for ever has ended: nothing works without it, so the container starts anew."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("the gateway can't go on", exc_info=task.exception())
        signal.raise_signal(signal.SIGTERM)
