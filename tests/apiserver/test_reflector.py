"""The reflector on a real API server: pages, bookmarks' versions, a version that is too old."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from modelyard.cluster import client as client_module
from modelyard.cluster.client import Client
from modelyard.cluster.definitions import Definitions
from modelyard.cluster.login import log_in
from modelyard.cluster.reflector import Reflector
from modelyard.engine.cache import Cache
from modelyard.engine.kinds import Kind
from modelyard.engine.plan import Key, Manifest
from modelyard.telemetry.metrics import Metrics

from tests.apiserver.conftest import Kubectl
from tests.fakes.harness import KINDS

CONFIG_MAP = KINDS["ConfigMap"]


class LateClient(Client):
    """Its first watch begins `late`: after something has happened, from the first version that there ever was."""

    late: Callable[[], Awaitable[None]] | None = None

    async def watch(
        self, kind: Kind, namespace: str | None, selector: str | None, *, version: int | None, seconds: int,
        metadata_only: bool = False,
    ) -> AsyncGenerator[dict[str, Any]]:  # fmt: skip
        """As the client's."""
        late, self.late = self.late, None
        if late is not None:
            await late()
            version = 1
        async for event in super().watch(kind, namespace, selector, version=version, seconds=seconds):
            yield event


class Bench:
    """A cache that a reflector fills, and kubectl."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self.cache = Cache(KINDS)
        self.lost: list[str] = []

    async def create(self, *names: str, ours: bool = True) -> None:
        """ConfigMaps."""
        labels = {"app.kubernetes.io/managed-by": "modelyard" if ours else "somebody"}
        items = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": n, "labels": labels},
                "data": {"a": "1"},
            }
            for n in names
        ]
        await self.kubectl(
            "create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        )

    async def kubectl(self, *arguments: str, **options: Any) -> None:
        """kubectl, beside the loop."""
        await asyncio.to_thread(self._kubectl, "--namespace", self._namespace, *arguments, **options)

    def observe(self, event: str | None, obj: Manifest) -> None:
        """As the engine does."""
        if event == "DELETED":
            self.cache.remove(Key("ConfigMap", self._namespace, obj["metadata"]["name"]))
        else:
            self.cache.put(obj, 0.0)

    def gone(self, key: Key) -> None:
        """As the engine does."""
        self.lost.append(key.name)
        self.cache.remove(key)

    def holds(self) -> dict[str, str]:
        """Names and data."""
        keys = self.cache.keys("ConfigMap")
        return {key.name: (self.cache.get(key) or {})["data"]["a"] for key in keys}

    async def until(self, wanted: dict[str, str]) -> None:
        """Waits for a state of the cache."""
        async with asyncio.timeout(15):
            while True:
                if self.holds() == wanted:
                    return
                await asyncio.sleep(0.02)


Scenario = Callable[[Bench, Reflector, LateClient], Awaitable[None]]


@pytest.fixture
def reflect(kubeconfig: str, kubectl: Kubectl, namespace: str) -> Callable[[Scenario], None]:
    """Runs a scenario with a reflector that has not begun."""

    async def main(scenario: Scenario) -> None:
        login, bench = await log_in(kubeconfig), Bench(kubectl, namespace)
        client = LateClient(login, KINDS, Metrics())
        async with client:
            reflector = Reflector(
                client=client, kind=CONFIG_MAP, namespace=namespace, cache=bench.cache,
                observe=bench.observe, gone=bench.gone, definitions=Definitions(client, (), lambda kind, present: None),
                metrics=Metrics(), listing=asyncio.Lock(),
            )  # fmt: skip
            await scenario(bench, reflector, client)
        await asyncio.sleep(0.1)  # connections with TLS take a moment to close

    return lambda scenario: asyncio.run(main(scenario))


async def running(reflector: Reflector, scenario: Awaitable[None]) -> None:
    """The scenario while the reflector runs."""
    task = asyncio.create_task(reflector.run())
    try:
        await reflector.wait_synced()
        await scenario
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_pages_then_events_and_nobody_elses_objects(
    reflect: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)

    async def scenario(bench: Bench, reflector: Reflector, client: LateClient) -> None:
        await bench.create("a", "b", "c", "d", "e")
        await bench.create("foreign", ours=False)

        async def go_on() -> None:
            assert bench.holds() == dict.fromkeys("abcde", "1")  # all of it at the moment of being synced
            await bench.create("f")
            await bench.kubectl("patch", "configmap", "a", "--patch", '{"data": {"a": "2"}}')
            await bench.kubectl("delete", "configmap", "b")
            await bench.until({"a": "2", "c": "1", "d": "1", "e": "1", "f": "1"})
            # An object that loses the label is none of ours any more.
            await bench.kubectl("label", "configmap", "c", "app.kubernetes.io/managed-by-")
            await bench.until({"a": "2", "d": "1", "e": "1", "f": "1"})
            assert bench.lost == []

        await running(reflector, go_on())

    reflect(scenario)


def test_a_version_that_is_too_old_costs_a_listing_and_loses_nothing(
    reflect: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench, reflector: Reflector, client: LateClient) -> None:
        await bench.create("a", "b")

        async def meanwhile() -> None:
            await bench.kubectl("delete", "configmap", "a")
            await bench.create("c")

        client.late = meanwhile

        async def go_on() -> None:
            await bench.until({"b": "1", "c": "1"})
            assert bench.lost == ["a"]
            await bench.create("d")
            await bench.until({"b": "1", "c": "1", "d": "1"})

        await running(reflector, go_on())

    reflect(scenario)
