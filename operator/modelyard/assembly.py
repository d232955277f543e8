"""The operator put together: what starts, in which order, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import uuid
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path

from modelyard.cluster.client import Client
from modelyard.cluster.clock import LoopClock
from modelyard.cluster.eventreader import EventReader
from modelyard.cluster.lease import Election
from modelyard.cluster.login import Login, log_in
from modelyard.cluster.objectreader import ObjectReader
from modelyard.cluster.watch import Watches
from modelyard.engine.cache import Cache
from modelyard.engine.controller import Controller
from modelyard.engine.guard import Guard
from modelyard.engine.queue import WorkQueue
from modelyard.engine.reconciler import Reconciler
from modelyard.features import FEATURES, KINDS
from modelyard.observe import descriptors
from modelyard.observe.computer import Computer
from modelyard.observe.direct import DirectReader
from modelyard.observe.facts import AllFacts
from modelyard.observe.poller import Poller, Reader
from modelyard.observe.profiles import ProfilesFile
from modelyard.observe.proxied import ProxiedReader
from modelyard.telemetry.health import HealthServer
from modelyard.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# Events of one resource that come within this time of a pass wait for each other (pods start in a burst).
SPACING = 0.05
# Under a grace period of 30 s: passes may finish, then the Lease goes back and the watches end.
STOP_PASSES = 12.0
STOP_WATCHES = 5.0
# A pass that takes longer than all its calls' time limits together hangs.
STUCK_AFTER = 600.0
# Objects of the API are trees, which need no collector; each holds hundreds of its containers, so that the
# default (700) would look for cycles with every second event.
COLLECT_AFTER = (10_000, 5, 5)
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Operator:
    """One operator process. `options` are those of the command line."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._cache = Cache(KINDS)
        measures = {f.kind.name: f.measure for f in FEATURES if f.measure is not None}
        self._metrics = Metrics(measures, self._cache.get)
        self._clock = LoopClock()
        self._queue = WorkQueue(self._clock, self._metrics, spacing=SPACING)
        self._guard = Guard(self._cache, self._clock, self._check)
        self._stop = asyncio.Event()
        self._watches: Watches | None = None
        self._background: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT (0) or until the process must not go on (1)."""
        profiles = ProfilesFile(self._options.profiles)
        login = await log_in(self._options.kubeconfig)
        health = HealthServer(self._metrics, alive=self._hangs, ready=self._lacks, refresh=self._refresh)
        port = await health.start(self._options.metrics_host, self._options.metrics_port)
        self._catch_signals()
        gc.set_threshold(*COLLECT_AFTER)
        log.info("starting", extra={"server": login.server, "port": port, "pid": os.getpid()})
        try:
            async with (
                Client(login, KINDS, self._metrics) as client,
                _reader(login, client) as reader,
            ):
                return await self._work(login, client, reader, profiles)
        finally:
            await health.stop()

    async def _work(self, login: Login, client: Client, reader: Reader, profiles: ProfilesFile) -> int:
        events = EventReader(client, self._clock.monotonic, self._clock.now)
        objects = ObjectReader(client, (kind for f in FEATURES for kind in f.looks_at))
        facts = AllFacts(
            Poller(
                reader,
                events,
                objects,
                self._clock,
                self._queue.add,
                self._metrics,
                held=descriptors.find_room(),
            ),
            Computer(self._queue.add, self._metrics, self._clock.monotonic),
        )
        reconciler = Reconciler(
            kinds=KINDS,
            planners={f.kind.name: f.make_planner(lambda: profiles.settings) for f in FEATURES},
            cache=self._cache,
            guard=self._guard,
            cluster=client,
            facts=facts,
            clock=self._clock,
            observer=self._metrics,
            wake=self._queue.add,
            crowded=lambda: self._queue.crowded,
        )
        controller = Controller(
            kinds=KINDS,
            cache=self._cache,
            guard=self._guard,
            queue=self._queue,
            reconciler=reconciler,
            clock=self._clock,
            observer=self._metrics,
        )
        watches = self._watches = Watches(
            login=login,
            client=client,
            kinds=KINDS,
            namespaces=self._options.namespaces,
            cache=self._cache,
            observe=controller.observe,
            gone=controller.gone,
            serves=controller.serves,
            metrics=self._metrics,
        )
        election = self._election(client)
        if election is not None:
            client.may_write = election.held

        watching_ready, watching_stop = asyncio.Event(), asyncio.Event()
        watching = asyncio.create_task(watches.run(watching_ready, watching_stop), name="watches")
        steps = asyncio.create_task(
            self._lead(watching_ready, watches, election, controller, facts, profiles), name="lead"
        )
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({watching, steps, stop}, return_when=asyncio.FIRST_COMPLETED)
            # Only a lost Lease, a failure, or the end of the watches ends the others before a stop was asked
            # for.
            failed = not stop.done()
            if steps.done() and steps.exception() is None:
                return 1  # the Lease is lost: another may write by now, so nothing is finished or released
            return await self._end(steps, controller, election, failed=failed)
        finally:
            watching_stop.set()
            await self._finish(stop, steps, *self._background)
            await asyncio.wait({watching}, timeout=STOP_WATCHES)
            await self._finish(watching)
            # kopf leaves its streams to the loop's end, which then complains of each that it closes.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    async def _lead(
        self,
        ready: asyncio.Event,
        watches: Watches,
        election: Election | None,
        controller: Controller,
        facts: AllFacts,
        profiles: ProfilesFile,
    ) -> None:
        """Fills the cache, waits for the Lease, starts the work; returns when the Lease is lost."""
        await ready.wait()
        self._catch_signals()  # kopf has taken them over
        await watches.wait_synced()
        # What is there now stays: no collection need look at it again.
        gc.collect()
        gc.freeze()
        log.info("cache filled", extra={k.plural: self._cache.count(k.name) for k in KINDS})
        if election is not None:
            await election.acquire()
        self._metrics.leads(True)
        controller.start(self._options.workers)
        self._background = [
            asyncio.create_task(facts.run(), name="facts"),
            asyncio.create_task(profiles.follow(controller.enqueue_all), name="profiles"),
        ]
        if election is None:
            await asyncio.Event().wait()
        else:
            await election.keep()
        self._metrics.leads(False)

    async def _end(
        self, steps: asyncio.Task[None], controller: Controller, election: Election | None, *, failed: bool
    ) -> int:
        """Passes that run finish under a Lease that is still renewed; then it goes back."""
        log.info("stopping", extra={"asked": not failed})
        await controller.stop(STOP_PASSES)
        error = steps.exception() if steps.done() and not steps.cancelled() else None
        await self._finish(steps)
        if election is not None:
            await election.release()
        if error is not None:
            raise error
        return 1 if failed else 0

    @staticmethod
    async def _finish(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.debug("ended with an error", exc_info=result)

    def _election(self, client: Client) -> Election | None:
        if not self._options.leader_election:
            return None
        namespace = self._options.lease_namespace
        if not namespace:
            namespace = _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else "default"
        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        return Election(client, namespace, self._options.lease, identity, self._clock.monotonic)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _check(self, kind: str) -> None:
        if self._watches is not None:
            self._watches.check(kind)

    def _hangs(self) -> str | None:
        running = self._queue.longest_running()
        return f"a pass has been running for {running:.0f} s" if running > STUCK_AFTER else None

    def _lacks(self) -> str | None:
        # A standby is ready: its cache is full, and it takes over at once.
        return None if self._watches is not None and self._watches.synced else "the cache is being filled"

    def _refresh(self) -> None:
        for kind in KINDS:
            self._metrics.cached(kind.name, self._cache.count(kind.name))
        self._metrics.unfinished.set(self._queue.unfinished())
        self._metrics.longest.set(self._queue.longest_running())


@contextlib.asynccontextmanager
async def _reader(login: Login, client: Client) -> AsyncIterator[Reader]:
    """Pods' addresses can be reached from inside the cluster only."""
    if login.in_cluster:
        async with DirectReader() as direct:
            yield direct
    else:
        yield ProxiedReader(client.fetch)
