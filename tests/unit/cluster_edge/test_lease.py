"""The election, on a clock of its own: who may write, and who takes over when."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from modelyard.cluster import lease
from modelyard.cluster.lease import Election
from modelyard.engine.errors import AlreadyExists, Conflict, NotFound, Unavailable
from modelyard.engine.kinds import Kind
from modelyard.engine.plan import Manifest


class LeaseServer:
    """One Lease with optimistic concurrency. `down` makes every call fail."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.down = False
        self._version = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        self._check()
        if self.lease is None:
            raise NotFound(name)
        return copy.deepcopy(self.lease)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        self._check()
        if self.lease is not None:
            raise AlreadyExists("lease")
        return self._store(manifest)

    async def replace(self, kind: Kind, manifest: Manifest, timeout: float | None = None) -> Manifest:
        self._check()
        assert self.lease is not None
        if manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("lease")
        return self._store(manifest)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("down")

    def _store(self, manifest: Manifest) -> Manifest:
        self._version += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self._version)
        return copy.deepcopy(self.lease)


class World:
    """Time that passes only while everybody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.server = LeaseServer()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, future))
        await future

    async def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            for _ in range(20):
                await _yield()
            due = [s for s in self._sleepers if s[0] <= end and not s[1].done()]
            if not due:
                break
            at, future = min(due, key=lambda s: s[0])
            self._sleepers.remove((at, future))
            self.now = max(self.now, at)
            future.set_result(None)
        self.now = end

    def candidate(self, name: str) -> Election:
        return Election(self.server, "ns", "modelyard", name, lambda: self.now, self.sleep)


async def _yield() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


@pytest.fixture
def world() -> World:
    return World()


def holder(world: World) -> Any:
    assert world.server.lease is not None
    return world.server.lease["spec"]["holderIdentity"]


def test_one_of_two_leads_and_the_other_waits(world: World) -> None:
    async def scenario() -> None:
        a, b = world.candidate("a"), world.candidate("b")
        await a.acquire()
        waiting = asyncio.create_task(b.acquire())
        keeping = asyncio.create_task(a.keep())
        await world.pass_time(120)
        assert (a.held(), b.held(), holder(world)) == (True, False, "a")
        assert not waiting.done()
        waiting.cancel()
        keeping.cancel()

    asyncio.run(scenario())


def test_a_released_lease_is_taken_over_within_a_second(world: World) -> None:
    async def scenario() -> None:
        a, b = world.candidate("a"), world.candidate("b")
        await a.acquire()
        waiting = asyncio.create_task(b.acquire())
        await world.pass_time(3)
        await a.release()
        assert not a.held()
        await world.pass_time(lease.STANDBY_PERIOD)
        await waiting
        assert b.held()
        assert world.server.lease is not None
        assert world.server.lease["spec"]["leaseTransitions"] == 1

    asyncio.run(scenario())


def test_a_dead_holders_lease_is_taken_over_when_it_expires_and_not_before(world: World) -> None:
    async def scenario() -> None:
        a, b = world.candidate("a"), world.candidate("b")
        await a.acquire()
        waiting = asyncio.create_task(b.acquire())
        await world.pass_time(lease.DURATION - 1)
        assert not waiting.done()
        await world.pass_time(3)
        assert waiting.done()
        assert b.held()

    asyncio.run(scenario())


def test_a_holder_that_cannot_renew_stops_before_another_may_start(world: World) -> None:
    async def scenario() -> None:
        a = world.candidate("a")
        await a.acquire()
        keeping = asyncio.create_task(a.keep())
        await world.pass_time(5)
        world.server.down = True
        await world.pass_time(lease.RENEW_DEADLINE - lease.RETRY_PERIOD)
        assert not keeping.done()
        await world.pass_time(2 * lease.RETRY_PERIOD)
        assert keeping.done()
        assert not a.held()

    asyncio.run(scenario())


def test_a_frozen_holder_may_not_write_when_it_thaws(world: World) -> None:
    async def scenario() -> None:
        a, b = world.candidate("a"), world.candidate("b")
        await a.acquire()
        world.now += lease.RENEW_DEADLINE  # no code of a's ran meanwhile
        assert not a.held()
        waiting = asyncio.create_task(b.acquire())
        await world.pass_time(lease.DURATION + 2)
        keeping = asyncio.create_task(a.keep())
        await world.pass_time(lease.RETRY_PERIOD)
        assert waiting.done()
        assert keeping.done()
        assert (a.held(), b.held(), holder(world)) == (False, True, "b")

    asyncio.run(scenario())


def test_a_short_outage_costs_nothing(world: World) -> None:
    async def scenario() -> None:
        a = world.candidate("a")
        await a.acquire()
        keeping = asyncio.create_task(a.keep())
        world.server.down = True
        await world.pass_time(6)
        world.server.down = False
        await world.pass_time(60)
        assert a.held()
        assert not keeping.done()
        keeping.cancel()

    asyncio.run(scenario())


def test_of_two_that_start_together_one_leads(world: World) -> None:
    async def scenario() -> None:
        candidates = [world.candidate(n) for n in "abc"]
        tasks = [asyncio.create_task(c.acquire()) for c in candidates]
        await world.pass_time(0.5)
        assert [c.held() for c in candidates].count(True) == 1
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())
