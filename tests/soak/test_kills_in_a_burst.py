"""A thousand jobs at once while the operator is killed again and again: each ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from modelyard.workloads.pods.delays import STUCK_AFTER

from tests.bench import burst
from tests.bench.controlplane import ROOT, control_plane, make_operator, prepare
from tests.bench.process import Operator
from tests.bench.removal import JOBS, remove
from tests.bench.server import Server
from tests.soak.sightings import KINDS, Sightings, list_shapes

pytestmark = pytest.mark.timeout(1500)
COUNT = 1000
# Deaths while jobs are still being made, of each sort.
LEAST_KILLS = 4
MORTAL = ROOT / "tests" / "apiserver" / "mortal.py"
LOGS = ROOT / "build" / "soak" / "kills"


class Killer:
    """Operators that live for a moment: killed from outside at any time, or by a write of their own."""

    def __init__(self, kubeconfig: str, seed: int) -> None:
        self.seed, self.random = seed, random.Random(seed)  # noqa: S311
        alone = "--no-leader-election"  # a successor need not wait for the Lease
        self.plain = make_operator(kubeconfig, LOGS, alone)
        self.mortal = make_operator(kubeconfig, LOGS, alone, script=MORTAL, name="mortal")
        self.kills = self.deaths = 0

    async def run(self, ended: asyncio.Event) -> None:
        """Until told to end; no operator runs then."""
        while not ended.is_set():
            if self.random.random() < 0.4:
                await self._live_for_a_write(ended)
            else:
                await self._live_for_a_while()

    async def _live_for_a_while(self) -> None:
        self.plain.start()
        # Starting takes a second or two: some lives end before the first write, most in the middle of many.
        await asyncio.sleep(self.random.uniform(1.5, 6))
        await asyncio.to_thread(self.plain.stop, signal.SIGKILL)
        self.kills += 1

    async def _live_for_a_write(self, ended: asyncio.Event) -> None:
        self.mortal.env["MORTAL_WRITE"] = str(self.random.choice((1, 2, 3, 5, 8, 30, 100)))
        self.mortal.start()
        process = self.mortal.process
        assert process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not ended.is_set():
            if process.poll() is not None:
                self.deaths += process.returncode == -signal.SIGKILL
                break
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self.mortal.stop, signal.SIGKILL)


async def rest(server: Server, operator: Operator) -> None:
    """Until nothing is left to say: there is no node, and after a minute every job says that its pod doesn't start."""
    await burst.settle(server, operator, 600)
    await asyncio.sleep(STUCK_AFTER + 5)
    await burst.settle(server, operator, 600)


def different(shapes: dict[str, Any], names: list[str], expected: Any) -> dict[str, Any]:
    """Of the jobs that aren't as expected, the first three."""
    return {name: shapes.get(name) for name in [n for n in names if shapes.get(n) != expected][:3]}


async def soak(kubeconfig: str, seed: int) -> None:
    """The whole story, on an empty control plane."""
    stamp = f"{int(time.time()) & 0xFFFFF:x}"
    calm, run = f"calm{stamp}", f"soak{stamp}"
    names = [f"{run}-{index:05d}" for index in range(COUNT)]
    killer = Killer(kubeconfig, seed)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server(kubeconfig))
        await prepare(server)
        stack.callback(killer.plain.stop)
        killer.plain.start()
        await burst.create(server, [f"{calm}-00000"], calm, 1)
        await rest(server, killer.plain)
        (expected,) = (await list_shapes(server, JOBS)).values()
        assert expected["children"], "the undisturbed job made nothing that could be compared"
        assert expected["strangers"] == []
        killer.plain.stop()

        seen = {k: await stack.enter_async_context(Sightings(server, path)) for k, path in KINDS.items()}
        ended = asyncio.Event()
        killing = asyncio.create_task(killer.run(ended))
        try:
            await burst.create(server, names, run, 10)
            missing = f"not every job of {COUNT} got its Job in 600 s"
            wanted = set(names)
            await seen["Job"].until(lambda: seen["Job"].parents >= wanted, 600, missing)
        finally:
            ended.set()
            await killing
        assert (killer.kills >= LEAST_KILLS, killer.deaths >= LEAST_KILLS) == (True, True), (
            f"only {killer.kills} kills and {killer.deaths} deaths by a write: too fast to have been in danger"
        )

        killer.plain.start()
        await rest(server, killer.plain)
        shapes = await list_shapes(server, JOBS)
        assert different(shapes, names, expected) == {}, f"expected {expected}"
        assert set(shapes) == {f"{calm}-00000", *names}
        for kind, sightings in seen.items():
            assert {n: c for n, c in sightings.made.items() if c > 1} == {}, f"{kind} made twice"
            assert dict(sightings.gone) == {}, f"{kind} went"

        killer.plain.stop()
        before = await server.requests()
        killer.plain.start()
        await burst.settle(server, killer.plain, quiet=5)
        made = (await server.requests()) - before
        assert {k: n for k, n in made.items() if k.startswith("APPLY") or "events" in k} == {}, (
            "a restart wrote"
        )
        await remove(server, run)
        await remove(server, calm)
        killer.plain.stop()


def test_every_job_of_a_burst_is_made_once_however_often_the_operator_dies() -> None:
    seed = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(10**6))
    print(f"SOAK_SEED={seed}")  # pytest shows it with a failure
    with control_plane(LOGS, "soak") as kubeconfig:
        asyncio.run(soak(kubeconfig, seed))
