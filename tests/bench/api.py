"""The operator on a real API server, section by section: bursts, restart, rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.bench import burst, deployments
from tests.bench.controlplane import DOWN_SECONDS, UP_SECONDS, control_plane, operated
from tests.bench.process import Operator
from tests.bench.removal import remove
from tests.bench.sections import Rows, Section
from tests.bench.server import Server

BURSTS = ((20, True), (100, False), (1000, False))
RESTING = (0, 1000, 5000)
SETTLED = 200
Measure = Callable[[Rows, Server, Operator, str], Awaitable[None]]


async def measure_bursts(rows: Rows, server: Server, operator: Operator, stamp: str) -> None:
    """One row for each size. What one size leaves behind is removed before the next."""
    await burst.measure_burst(server, operator, f"w{stamp}", 20, one_by_one=False)
    await remove(server, f"w{stamp}")
    for count, single in BURSTS:
        mode, run = "one by one" if single else "burst", f"b{count}{stamp}"
        with rows.measure(mode=mode, jobs=count) as row:
            await burst.ensure_leader(operator)
            row |= await burst.measure_burst(server, operator, run, count, single)
        with rows.measure(mode="removal", jobs=count):
            await remove(server, run)


async def measure_restart(rows: Rows, server: Server, operator: Operator, stamp: str) -> None:
    """One row."""
    with rows.measure(settled=SETTLED) as row:
        row |= await burst.measure_restart(server, operator, f"r{stamp}", SETTLED)


async def measure_rest(rows: Rows, server: Server, operator: Operator, stamp: str) -> None:
    """One row for each number of jobs; at the end all of them are deleted and must go."""
    run, made = f"i{stamp}", 0
    for count in RESTING:
        with rows.measure(idle_jobs=count) as row:
            row |= await burst.measure_rest(server, operator, run, made, count, 15)
        if rows.failures():
            return  # more jobs on top of this would be measured in the same trouble
        made = count
    with rows.measure(idle_jobs=made, step="removal"):
        await remove(server, run)


def on_control_plane(
    logs: Path, seconds: int, measure: Measure, script: Path | None = None
) -> Callable[[Rows], None]:
    """A section's measurement with a control plane and an operator of its own; it has `seconds` once these are up."""

    async def bounded(rows: Rows, kubeconfig: str) -> None:
        async with operated(kubeconfig, logs, script) as (server, operator):
            try:
                async with asyncio.timeout(seconds) as limit:
                    await measure(rows, server, operator, f"{int(time.time()) & 0xFFFFF:x}")
            except TimeoutError:
                if limit.expired():
                    raise TimeoutError(f"not done after {seconds} s") from None
                raise

    def run(rows: Rows) -> None:
        with control_plane(logs) as kubeconfig:
            asyncio.run(bounded(rows, kubeconfig))

    return run


def sections(logs: Path) -> dict[str, list[Section]]:
    """By group. The logs of a section's components are kept in a folder of its name."""

    def section(name: str, title: str, seconds: int, measure: Measure, script: Path | None = None) -> Section:
        bound = on_control_plane(logs / name, seconds, measure, script)
        return Section(name, title, seconds + UP_SECONDS + 3 * DOWN_SECONDS, bound)

    restart = f"SIGTERM with {SETTLED} settled jobs -> first child of a new one"
    return {
        "api": [
            section("burst", "Create -> first child Job", 1800, measure_bursts),
            section("restart", restart, 600, measure_restart),
        ],
        "idle": [section("idle", "At rest", 4800, measure_rest)],
        "deployments": [
            section("deployments", deployments.TITLE, 1200, deployments.measure, deployments.INSIDE)
        ],
    }
