"""An engine with its real edge in the tests' own process, on made-up kinds."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from modelyard.cluster.client import Client
from modelyard.cluster.clock import LoopClock
from modelyard.cluster.eventreader import EventReader
from modelyard.cluster.login import log_in
from modelyard.cluster.objectreader import ObjectReader
from modelyard.cluster.watch import Watches
from modelyard.engine.cache import Cache
from modelyard.engine.controller import Controller
from modelyard.engine.errors import ClusterError, Unavailable
from modelyard.engine.guard import Guard
from modelyard.engine.kinds import Kind
from modelyard.engine.queue import WorkQueue
from modelyard.engine.reconciler import Reconciler
from modelyard.observe.computer import Computer
from modelyard.observe.facts import AllFacts
from modelyard.observe.poller import Poller
from modelyard.observe.proxied import ProxiedReader
from modelyard.telemetry.metrics import Metrics

from tests.fakes.harness import KINDS, PLANNERS, TOY

if TYPE_CHECKING:
    from tests.apiserver.conftest import Kubectl

OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SCHEMA = {
    "type": "object",
    "properties": {"spec": OPEN, "status": {**OPEN, "default": {"observedGeneration": -1}}},
}


def build_crd(kind: Kind) -> dict[str, Any]:
    """A CustomResourceDefinition that takes any spec and status."""
    version = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": SCHEMA},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {"kind": kind.name, "plural": kind.plural},
            "versions": [version],
        },
    }


class Bench:
    """An engine at work, and kubectl to disturb it."""

    def __init__(self, kubectl: Kubectl, namespace: str, metrics: Metrics) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self.metrics = metrics

    async def kubectl(self, *arguments: str, **options: Any) -> str:
        """kubectl, beside the loop."""
        done = await asyncio.to_thread(self._kubectl, "--namespace", self._namespace, *arguments, **options)
        return str(done.stdout)

    async def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """One object with its managed fields."""
        text = await self.kubectl(
            "get", kind, name, "--output=json", "--show-managed-fields", "--ignore-not-found", check=False
        )
        return json.loads(text) if text.strip() else None

    async def until(self, what: str, check: Callable[[], Awaitable[Any]], timeout: float = 15.0) -> Any:
        """Waits for something."""
        async with asyncio.timeout(timeout):
            while True:
                found = await check()
                if found:
                    return found
                await asyncio.sleep(0.05)

    async def create(self, name: str = "a", kind: Kind = TOY, **spec: Any) -> None:
        """Creates a resource and waits for its status."""
        made = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}, "spec": spec}
        await self.kubectl("create", "-f", "-", input=json.dumps(made))
        await self.until("a status", lambda: self.reports(name, 1, kind))

    async def change(self, name: str = "a", kind: Kind = TOY, **spec: Any) -> None:
        """Changes a resource and waits until the engine has followed."""
        await self.kubectl("patch", kind.name, name, "--type=merge", "--patch", json.dumps({"spec": spec}))
        changed = await self.get(kind.name, name)
        assert changed is not None
        await self.until("a status", lambda: self.reports(name, changed["metadata"]["generation"], kind))

    async def reports(self, name: str, generation: int, kind: Kind = TOY) -> bool:
        """Whether the status speaks of that generation."""
        found = await self.get(kind.name, name)
        return found is not None and found["status"].get("observedGeneration") == generation

    async def says(self, kind: Kind, name: str, timeout: float = 30.0, **status: Any) -> None:
        """Waits for these values in a status."""

        seen: dict[str, Any] = {}

        async def said() -> bool:
            found = await self.get(kind.name, name)
            seen.update(found["status"] if found else {})
            return all(seen.get(field) == value for field, value in status.items())

        try:
            await self.until(f"{status} of {kind.name} {name}", said, timeout)
        except TimeoutError as error:
            raise AssertionError(f"{kind.name} {name} says {seen}, not {status}") from error

    def writes(self, kind: str) -> float:
        """The engine's writes of a kind."""
        samples = [
            s
            for m in self.metrics.registry.collect()
            for s in m.samples
            if s.name == "modelyard_writes_total"
        ]
        return sum(s.value for s in samples if s.labels["kind"] == kind)


Scenario = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True)
class Running:
    """An engine at work."""

    client: Client
    queue: WorkQueue
    metrics: Metrics


def install_crds(kubectl: Kubectl) -> None:
    """Has the made-up kinds served."""
    for kind in (k for k in KINDS if k.owner_label):
        kubectl("apply", "--server-side", "-f", "-", input=json.dumps(build_crd(kind)))
        kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{kind.plural}.{kind.group}")
        kubectl("get", kind.plural, "--all-namespaces")


class Mortal(Client):
    """A client whose process dies of a write: the server has taken it, and nobody hears of the answer."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._dies = False
        self.died = False

    async def call(self, method: str, path: str, resource: str, **options: Any) -> dict[str, Any]:
        """Whatever comes after the first write is not done any more."""
        if not self._dies:
            self._dies = dies = method != "GET"
            try:
                answer = await super().call(method, path, resource, **options)
            except ClusterError:
                self._dies = self._dies and not dies  # that was none: an Event, say, that is there already
                raise
            self.died = self.died or dies
            if not self._dies:
                return answer
        await asyncio.Event().wait()
        raise AssertionError("a dead process goes on")


class Forgetful(Client):
    """A client that hears of no first answer to a write: it asks again, for what the server has done by then."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._heard: set[tuple[str, str]] = set()

    async def _once(self, method: str, path: str, *arguments: Any) -> dict[str, Any]:
        answer = await super()._once(method, path, *arguments)
        if method != "GET" and (method, path) not in self._heard:
            self._heard.add((method, path))
            raise Unavailable(f"{method} {path}: no answer")
        return answer


@asynccontextmanager
async def running_engine(
    kubeconfig: str, namespace: str, client_type: type[Client]
) -> AsyncIterator[Running]:
    """An engine that works in that namespace."""
    sockets = _count_sockets()
    metrics, clock, cache = Metrics(), LoopClock(), Cache(KINDS)
    queue = WorkQueue(clock, metrics, spacing=0.02)
    guard = Guard(cache, clock, lambda kind: watches.check(kind))
    login = await log_in(kubeconfig)
    async with client_type(login, KINDS, metrics) as client:
        reader, events = ProxiedReader(client.fetch), EventReader(client, clock.monotonic)
        poller = Poller(reader, events, ObjectReader(client, KINDS), clock, queue.add, metrics)
        facts = AllFacts(poller, Computer(queue.add, metrics, clock.monotonic))
        reconciler = Reconciler(
            kinds=KINDS, planners=PLANNERS, cache=cache, guard=guard, cluster=client,
            facts=facts, clock=clock, observer=metrics, wake=queue.add,
        )  # fmt: skip
        controller = Controller(
            kinds=KINDS, cache=cache, guard=guard, queue=queue, reconciler=reconciler, clock=clock,
            observer=metrics,
        )  # fmt: skip
        watches = Watches(
            login=login, client=client, kinds=KINDS, namespaces=[namespace], cache=cache,
            observe=controller.observe, gone=controller.gone, serves=controller.serves, metrics=metrics,
        )  # fmt: skip
        ready, stop = asyncio.Event(), asyncio.Event()
        watching = asyncio.create_task(watches.run(ready, stop))
        asking = asyncio.create_task(facts.run())
        try:
            await ready.wait()
            await watches.wait_synced()
            controller.start(4)
            yield Running(client, queue, metrics)
        finally:
            await controller.stop(0.0 if client_type is Mortal else 5.0)
            stop.set()
            asking.cancel()
            await asyncio.gather(watching, asking, return_exceptions=True)
    for _ in range(200):  # connections with TLS take a moment to close, longer where the server is busy
        await asyncio.sleep(0.05)
        if _count_sockets() <= sockets:
            return


def _count_sockets() -> int:
    """Open ones of this process."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(descriptor.readlink()).startswith("socket:")
    return found


def run_beside_engine(
    kubeconfig: str, kubectl: Kubectl, namespace: str, scenario: Scenario, client_type: type[Client] = Client
) -> None:
    """Runs a scenario beside an engine that works in that namespace."""

    async def main() -> None:
        async with running_engine(kubeconfig, namespace, client_type) as running:
            await scenario(Bench(kubectl, namespace, running.metrics))

    asyncio.run(main())


def run_mortal_engines(kubeconfig: str, namespace: str) -> int:
    """Engines that die of their first write, one after the other, until one has nothing to write.

    Returns how many have died.
    """

    async def one() -> bool:
        async with running_engine(kubeconfig, namespace, Mortal) as running:
            client = cast("Mortal", running.client)
            quiet = 0
            while quiet < 10 and not client.died:
                await asyncio.sleep(0.05)
                quiet = quiet + 1 if running.queue.idle else 0
            return client.died

    for deaths in range(200):
        if not asyncio.run(one()):
            return deaths
    raise AssertionError("there is no end of writing")
