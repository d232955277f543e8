"""From a custom resource to its first child Job: one at a time, in bursts, after a restart, and at rest."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from modelyard.workloads.pods.delays import STUCK_AFTER

from tests.bench.process import Operator, cpu_seconds, rss_mib
from tests.bench.removal import BENCH, CHILDREN, JOBS, LABEL
from tests.bench.server import FirstChild, Server, ServerError, writes


def manifest(name: str, run: str) -> dict[str, Any]:
    """An ordinary job on a team's shared storage: text from a ConfigMap, two nodes."""
    return {
        "apiVersion": "modelyard.dev/v1alpha1", "kind": "TrainingJob",
        "metadata": {"name": name, "namespace": "default", "labels": {BENCH: run}},
        "spec": {
            "task": "text-classification",
            "model": {"uri": "pvc://inputs/model"},
            "data": {"sources": [{"name": "rows", "uri": "configmap://rows/rows.csv"}], "split": {"validation": 0.1}},
            "training": {"maxSteps": 100, "learningRate": 2e-5},
            "storage": {"uri": "pvc://team"},
            "trainer": {"numNodes": 2, "resourcesPerNode": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        },
    }  # fmt: skip


def quantile(values: list[float], percent: int) -> float:
    """Nearest rank: always one of the measured values."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


async def settle(server: Server, operator: Operator, seconds: float = 120, quiet: float = 2.0) -> None:
    """Until neither writes reach the server nor the operator uses CPU for `quiet` seconds.

    Raises TimeoutError after `seconds`, and RuntimeError when the operator has ended.
    """
    deadline, since, last = time.monotonic() + seconds, time.monotonic(), (-1, -1.0)
    while time.monotonic() < deadline:
        now = (writes(await server.requests()), cpu_seconds(operator.pid))
        if now[0] != last[0] or now[1] - last[1] > 0.05:
            since = time.monotonic()
        last = now
        if time.monotonic() - since >= quiet:
            return
        await asyncio.sleep(0.4)
    raise TimeoutError(f"the cluster did not come to rest in {seconds:.0f} s")


async def ensure_leader(operator: Operator, seconds: float = 60) -> None:
    """An operator at work; one that has ended is started again, and what follows waits until it may write."""
    if not operator.runs:
        operator.start()
    deadline = time.monotonic() + seconds
    while not operator.leads():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the operator {operator.pid} has no Lease after {seconds:.0f} s: {operator.tail(3)}"
            )
        await asyncio.sleep(0.2)


async def create(server: Server, names: list[str], run: str, clients: int) -> dict[str, float]:
    """Creates the jobs with so many clients; when each create call returned (monotonic seconds)."""
    bodies = iter([(name, json.dumps(manifest(name, run)).encode()) for name in names])
    done: dict[str, float] = {}

    async def client() -> None:
        for name, body in bodies:
            try:
                await server.insist("POST", JOBS, body)
            except ServerError as error:
                if error.status != 409:  # an answer got lost and the job is there
                    raise
            done[name] = time.monotonic()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return done


async def measure_burst(
    server: Server, operator: Operator, run: str, count: int, one_by_one: bool
) -> dict[str, Any]:
    """One row: latency to the first child Job, total time, writes and CPU per job."""
    async with FirstChild(server, CHILDREN, LABEL) as watch:
        await settle(server, operator)
        before, cpu, began = await server.requests(), cpu_seconds(operator.pid), time.monotonic()
        names = [f"{run}-{index:05d}" for index in range(count)]
        done: dict[str, float] = {}
        until_child: list[int] = []
        if one_by_one:
            for name in names:
                counted = writes(await server.requests())
                done |= await create(server, [name], run, 1)
                await watch.wait([name], 60)
                until_child.append(writes(await server.requests()) - counted)
                await asyncio.sleep(0.5)
        else:
            done = await create(server, names, run, 10)
            await watch.wait(names, 300)
        total = max(watch.first[name] for name in names) - began
        cpu_children = cpu_seconds(operator.pid) - cpu
        await settle(server, operator)
        after = await server.requests()
        return {
            "p50_ms": round(1000 * quantile([watch.first[n] - done[n] for n in names], 50), 1),
            "p99_ms": round(1000 * quantile([watch.first[n] - done[n] for n in names], 99), 1),
            "total_s": None if one_by_one else round(total, 2),
            "writes_per_job": round(writes(after - before) / count, 2),
            "writes_until_child": quantile([float(n) for n in until_child], 50) if until_child else None,
            "cpu_ms_per_job": round(1000 * (cpu_seconds(operator.pid) - cpu) / count, 2),
            "cpu_ms_to_child": round(1000 * cpu_children / count, 2),
            "rss_mib": round(rss_mib(operator.pid), 1),
            "by_verb": {
                k: round(n / count, 2) for k, n in (after - before).most_common(14) if n / count >= 0.05
            },
        }


async def measure_restart(server: Server, operator: Operator, run: str, settled: int) -> dict[str, Any]:
    """SIGTERM with settled jobs, start again at once, one new job: seconds from the start to its first child."""
    names = [f"{run}-{index:05d}" for index in range(settled)]
    await create(server, names, run, 10)
    await settle(server, operator)
    stopped = operator.stop()
    before = await server.requests()
    began = operator.start()
    async with FirstChild(server, CHILDREN, LABEL) as watch:
        fresh = f"{run}-fresh"
        await create(server, [fresh], run, 1)
        await watch.wait([fresh], 60)
        seconds = watch.first[fresh] - began
        await settle(server, operator)
        extra = writes((await server.requests()) - before)
    return {"stop_s": round(stopped, 2), "first_child_s": round(seconds, 2), "writes_after": extra}


async def measure_rest(
    server: Server, operator: Operator, run: str, made: int, count: int, seconds: float
) -> dict[str, Any]:
    """At rest with `count` jobs, `made` of which are there: memory, CPU share, and calls to the API server."""
    await create(server, [f"{run}-{index:05d}" for index in range(made, count)], run, 10)
    await settle(server, operator, 600)
    # There is no node here: after a minute every job says that its pod does not start, and is then at rest.
    await asyncio.sleep(STUCK_AFTER + 5)
    await settle(server, operator, 600)
    before, cpu = await server.requests(), cpu_seconds(operator.pid)
    await asyncio.sleep(seconds)
    calls = {
        k: n
        for k, n in ((await server.requests()) - before).items()
        if "trainingjobs" in k or k.startswith("APPLY")
    }
    share = (cpu_seconds(operator.pid) - cpu) / seconds
    return {
        "rss_mib": round(rss_mib(operator.pid), 1), "cpu_percent": round(100 * share, 2),
        "calls": sum(calls.values()), "seconds": seconds,
    }  # fmt: skip
