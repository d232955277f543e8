"""ModelDeployments on a real API server: from a manifest to servers, under load, and at rest.

There are no nodes: pods are said to run by the measurement, at once. So what is measured is the control plane's part.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from modelyard.contract import codes

from tests.bench import burst
from tests.bench.controlplane import ROOT
from tests.bench.process import Operator, cpu_seconds, rss_mib
from tests.bench.removal import BENCH
from tests.bench.sections import Row, Rows
from tests.bench.server import WRITES, Server, Watch
from tests.fakes.podstatus import describe_pod

TITLE = "ModelDeployments: create -> servers, load, rest"
PATH = "/apis/modelyard.dev/v1alpha1/namespaces/default/modeldeployments"
PODS = "/api/v1/namespaces/default/pods"
LABEL, STAGE = "modelyard.dev/modeldeployment", "modelyard.dev/stage"
INSIDE = ROOT / "tests" / "bench" / "inside.py"
SINGLE, COUNT = 10, 100
SECONDS = 30.0
_CALL = re.compile(r"^modelyard_api_requests_total\{(.*)\} (\S+)", re.M)


def manifest(name: str, run: str) -> dict[str, Any]:
    """An ordinary deployment of a model that lies in a team's claim."""
    return {
        "apiVersion": "modelyard.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": "default", "labels": {BENCH: run}},
        "spec": {
            "model": {"uri": f"pvc://models/{name}"}, "storage": {"uri": "pvc://models"},
            "scaling": {"maxReplicas": 4, "target": 8},
        },
    }  # fmt: skip


class Kubelet(Watch):
    """Says of each pod of a deployment that it does what it should; `first`: when its first server's pod was seen."""

    def __init__(self, server: Server, address: str) -> None:
        super().__init__(server, PODS)
        self.first: dict[str, float] = {}
        self._address = address
        self._pods: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def see(self, event: str, metadata: dict[str, Any], now: float) -> bool:
        """Takes a new pod."""
        labels = metadata.get("labels") or {}
        if event != "ADDED" or LABEL not in labels:
            return False
        self._pods.put_nowait((metadata["name"], labels[STAGE]))
        if labels[STAGE] == "server":
            self.first.setdefault(labels[LABEL], now)
        return True

    async def play(self) -> None:
        """For ever."""
        while True:
            name, stage = await self._pods.get()
            status = describe_pod(stage, self._address)
            await self.server.insist(
                "PATCH",
                f"{PODS}/{name}/status",
                {"status": status},
                Content_Type="application/merge-patch+json",
            )


class Gateways:
    """What all gateways answer when they are asked for their load; `asked`: how often they were."""

    def __init__(self) -> None:
        self.asked = 0
        self._busy = False
        self._changed = asyncio.Event()

    def set(self, busy: bool) -> None:
        """Whether all have work from now on."""
        self._busy = busy
        self._changed.set()
        self._changed = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        """With the pod's own ways: at rest an answer is held back until there is something to tell."""
        self.asked += 1
        held = re.fullmatch(r"wait=(\d+)", request.headers.get("Prefer", ""))
        if held and request.headers.get("If-None-Match") == self._tag():
            try:
                async with asyncio.timeout(float(held[1])):
                    await self._changed.wait()
            except TimeoutError:
                return web.Response(status=304, headers={"ETag": self._tag()})
        load = 2.0 if self._busy else 0.0
        window = {"queued": 0.0, "running": load, "arrival_rate": 10 * load, "finish_rate": 10 * load}
        report = {
            "time": time.time(), "queued": 0, "running": int(load), "stable": window, "panic": window,
            "idle_seconds": 0.0 if self._busy else 30.0, "covered_seconds": 60.0, "weights": {},
        }  # fmt: skip
        return web.json_response(report, headers={"ETag": self._tag()})

    def _tag(self) -> str:
        return f'"{time.time()}"' if self._busy else '"rest"'


@asynccontextmanager
async def gateways(address: str) -> AsyncIterator[Gateways]:
    """At the port of all pods. Raises OSError when something else is there."""
    made = Gateways()
    app = web.Application()
    app.router.add_get("/v1/load", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, codes.GATEWAY_ADMIN_PORT).start()
        yield made
    finally:
        await runner.cleanup()


async def measure(rows: Rows, server: Server, operator: Operator, stamp: str) -> None:
    """Some one by one, many at once, all of them with work, all of them at rest."""
    await _provide_role(server)
    await burst.ensure_leader(operator)
    address = _own_address()
    async with gateways(address) as told, Kubelet(server, address) as kubelet:
        players = [asyncio.create_task(kubelet.play()) for _ in range(4)]
        try:
            await _create(server, kubelet, operator, f"w{stamp}", 2, one_by_one=True)
            with rows.measure(step="one by one", deployments=SINGLE) as row:
                row |= await _create(server, kubelet, operator, f"s{stamp}", SINGLE, one_by_one=True)
            with rows.measure(step="at once", deployments=COUNT) as row:
                row |= await _create(server, kubelet, operator, f"m{stamp}", COUNT, one_by_one=False)
            count = 2 + SINGLE + COUNT
            told.set(True)
            with rows.measure(step="under load", deployments=count) as row:
                await asyncio.sleep(15)  # the last ones hear of it
                row |= await _watch(server, operator, told)
            told.set(False)
            with rows.measure(step="at rest", deployments=count) as row:
                await settle(operator)
                row |= await _watch(server, operator, told)
        finally:
            for player in players:
                player.cancel()
            await asyncio.gather(*players, return_exceptions=True)


async def _create(
    server: Server, kubelet: Kubelet, operator: Operator, run: str, count: int, *, one_by_one: bool
) -> Row:
    await settle(operator)
    names = [f"{run}-{index:03d}" for index in range(count)]
    created: dict[str, float] = {}
    ready: dict[str, float] = {}
    before, cpu, began = await count_calls(operator), cpu_seconds(operator.pid), time.monotonic()
    for name in names:
        await server.insist("POST", PATH, manifest(name, run))
        created[name] = time.monotonic()
        if one_by_one:
            await _wait_ready(server, run, {name}, ready)
    await _wait_ready(server, run, set(names), ready)
    total = max(ready.values()) - began
    await settle(operator)
    written = sum((await count_calls(operator)).values()) - sum(before.values())
    return {
        "pod p50_ms": _median(kubelet.first[name] - created[name] for name in names),
        "ready p50_ms": _median(ready[name] - created[name] for name in names),
        "total_s": None if one_by_one else round(total, 1),
        "writes": round(written / count, 1),
        "cpu_ms": round((cpu_seconds(operator.pid) - cpu) * 1000 / count, 1),
        "rss_mib": round(rss_mib(operator.pid), 1),
    }


async def _watch(server: Server, operator: Operator, told: Gateways) -> Row:
    """Shares of a time in which nothing changes."""
    requests, calls = await server.requests(), await count_calls(operator)
    asked, cpu, began = told.asked, cpu_seconds(operator.pid), time.monotonic()
    await asyncio.sleep(SECONDS)
    seconds = time.monotonic() - began
    used = cpu_seconds(operator.pid) - cpu
    written = sum((await count_calls(operator)).values()) - sum(calls.values())
    kinds = {k: n for k, n in (await server.requests() - requests).items() if "modeldeployments" in k}
    return {
        "writes": written,
        "status_calls": sum(kinds.values()),
        "questions_per_s": round((told.asked - asked) / seconds, 1),
        "cpu_percent": round(100 * used / seconds, 2),
        "rss_mib": round(rss_mib(operator.pid), 1),
    }


async def settle(operator: Operator, seconds: float = 120, quiet: float = 12.0) -> None:
    """Until the operator has written nothing for so long: figures alone it writes every ten seconds.

    Others don't count: the endpoints controller tries for ever to make sense of pods that share an address.
    Raises TimeoutError after `seconds`.
    """
    deadline, since, last = time.monotonic() + seconds, time.monotonic(), -1
    while time.monotonic() < deadline:
        now = sum((await count_calls(operator)).values())
        if now != last:
            since, last = time.monotonic(), now
        if time.monotonic() - since >= quiet:
            return
        await asyncio.sleep(0.4)
    raise TimeoutError(f"the operator did not come to rest in {seconds:.0f} s")


async def _wait_ready(
    server: Server, run: str, names: set[str], ready: dict[str, float], seconds: float = 300
) -> None:
    """Until all are; when each was seen to be so. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while missing := names - ready.keys():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{len(missing)} deployments are not ready after {seconds:.0f} s: {min(missing)}"
            )
        found = await server.insist("GET", f"{PATH}?labelSelector={BENCH}%3D{run}")
        now = time.monotonic()
        for item in found["items"]:
            conditions = (item.get("status") or {}).get("conditions", ())
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                ready.setdefault(item["metadata"]["name"], now)
        await asyncio.sleep(0.02 if len(names) == 1 else 0.5)


async def count_calls(operator: Operator) -> dict[str, int]:
    """The operator's own writes so far, by what its metrics call them; those of its Lease left out."""
    text = await asyncio.to_thread(operator.scrape)
    counts: dict[str, int] = {}
    for labels, number in _CALL.findall(text):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if named["method"] in WRITES and named["resource"] != "leases":
            counts[labels] = int(float(number))
    return counts


async def _provide_role(server: Server) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "modelyard-gateway"},
        "rules": [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}],
    }  # fmt: skip
    url = "/apis/rbac.authorization.k8s.io/v1/clusterroles/modelyard-gateway?fieldManager=bench&force=true"
    await server.insist("PATCH", url, role, Content_Type="application/apply-patch+yaml")


def _own_address() -> str:
    """One of this machine that isn't a loopback, which no pod may have. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def _median(seconds: Iterable[float]) -> float:
    return round(1000 * burst.quantile(list(seconds), 50), 1)
