"""The engine with its real edge, in this process, on a made-up kind.

Ownership, pruning, garbage collection, status.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from modelyard.cluster.client import Client
from modelyard.cluster.clock import LoopClock
from modelyard.cluster.login import log_in
from modelyard.cluster.watch import Watches
from modelyard.engine.cache import Cache
from modelyard.engine.controller import Controller
from modelyard.engine.guard import Guard
from modelyard.engine.queue import WorkQueue
from modelyard.engine.reconciler import Reconciler
from modelyard.telemetry.metrics import Metrics

from tests.apiserver.conftest import Kubectl
from tests.fakes.harness import KINDS, TOY, FakeFacts
from tests.fakes.toys import plan_toy

OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SCHEMA = {
    "type": "object",
    "properties": {"spec": OPEN, "status": {**OPEN, "default": {"observedGeneration": -1}}},
}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "toys.modelyard.dev"},
    "spec": {
        "group": TOY.group,
        "scope": "Namespaced",
        "names": {"kind": TOY.name, "plural": TOY.plural},
        "versions": [
            {
                "name": TOY.version,
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": SCHEMA},
                "subresources": {"status": {}},
            }
        ],
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

    async def create(self, name: str = "a", **spec: Any) -> None:
        """Creates a toy and waits for its status."""
        toy = {"apiVersion": TOY.api_version, "kind": TOY.name, "metadata": {"name": name}, "spec": spec}
        await self.kubectl("create", "-f", "-", input=json.dumps(toy))
        await self.until("a status", lambda: self.reports(name, 1))

    async def change(self, name: str = "a", **spec: Any) -> None:
        """Changes a toy and waits until the engine has followed."""
        await self.kubectl("patch", "toy", name, "--type=merge", "--patch", json.dumps({"spec": spec}))
        toy = await self.get("toy", name)
        assert toy is not None
        await self.until("a status", lambda: self.reports(name, toy["metadata"]["generation"]))

    async def reports(self, name: str, generation: int) -> bool:
        """Whether the status speaks of that generation."""
        toy = await self.get("toy", name)
        return toy is not None and toy["status"].get("observedGeneration") == generation

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


@pytest.fixture
def engine(kubeconfig: str, kubectl: Kubectl, namespace: str) -> Callable[[Scenario], None]:
    """Runs a scenario beside an engine."""
    kubectl("apply", "--server-side", "-f", "-", input=json.dumps(CRD))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/toys.modelyard.dev")
    kubectl("get", "toys", "--all-namespaces")

    async def main(scenario: Scenario) -> None:
        metrics, clock, cache = Metrics(), LoopClock(), Cache(KINDS)
        queue = WorkQueue(clock, metrics, spacing=0.02)
        guard = Guard(cache, clock, lambda kind: watches.check(kind))
        login = await log_in(kubeconfig)
        async with Client(login, KINDS, metrics) as client:
            reconciler = Reconciler(
                kinds=KINDS, planners={TOY.name: plan_toy}, cache=cache, guard=guard, cluster=client,
                facts=FakeFacts(), clock=clock, observer=metrics,
            )  # fmt: skip
            controller = Controller(
                kinds=KINDS, cache=cache, guard=guard, queue=queue, reconciler=reconciler, clock=clock,
                observer=metrics,
            )  # fmt: skip
            watches = Watches(
                login=login, client=client, kinds=KINDS, namespaces=[namespace], cache=cache,
                observe=controller.observe, gone=controller.gone, metrics=metrics,
            )  # fmt: skip
            ready, stop = asyncio.Event(), asyncio.Event()
            watching = asyncio.create_task(watches.run(ready, stop))
            try:
                await ready.wait()
                await watches.wait_synced()
                controller.start(4)
                await scenario(Bench(kubectl, namespace, metrics))
            finally:
                await controller.stop(5.0)
                stop.set()
                await watching
        await asyncio.sleep(0.1)  # connections with TLS take a moment to close

    return lambda scenario: asyncio.run(main(scenario))


def managers(obj: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """By manager: operation and subresource."""
    fields = obj["metadata"]["managedFields"]
    return {m["manager"]: (m["operation"], m.get("subresource", "")) for m in fields}


def test_fields_have_the_managers_that_others_may_rely_on(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        toy, job = await bench.get("toy", "a"), await bench.get("job", "a-run")
        assert toy is not None
        assert job is not None
        assert managers(toy)["modelyard-status"] == ("Apply", "status")
        assert "modelyard" not in managers(toy)  # a user's spec, labels and annotations are the user's
        assert managers(job)["modelyard"] == ("Apply", "")
        await bench.change(suspend=True)
        job = await bench.get("job", "a-run")
        assert job is not None
        assert job["spec"]["suspend"] is True
        assert managers(job)["modelyard-mutable"] == ("Apply", "")
        assert managers(job)["modelyard"] == ("Apply", "")

    engine(scenario)


def test_a_field_that_leaves_the_plan_leaves_the_object_and_others_fields_stay(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create(value="1")
        await bench.kubectl("annotate", "configmap", "a-settings", "others=stay")
        await bench.change(value="2")
        settings = await bench.get("configmap", "a-settings")
        assert settings is not None
        assert settings["data"] == {"value": "2"}
        assert settings["metadata"]["annotations"]["others"] == "stay"

    engine(scenario)


def test_drift_is_repaired_and_deleted_children_come_back(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        await bench.kubectl(
            "patch", "configmap", "a-settings", "--type=merge", "--patch", '{"data":{"value":"x"}}'
        )

        async def repaired() -> bool:
            found = await bench.get("configmap", "a-settings")
            return found is not None and found["data"] == {"value": "1"}

        await bench.until("the repair", repaired)
        await bench.kubectl("delete", "configmap", "a-settings")
        await bench.until("the return", repaired)
        assert bench.writes("ConfigMap") == 3

    engine(scenario)


def test_a_pruned_job_takes_its_pods_along(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()

        async def pods() -> list[Any]:
            items: list[Any] = json.loads(await bench.kubectl("get", "pods", "--output=json"))["items"]
            return items

        (pod,) = await bench.until("the pod", pods)
        assert pod["metadata"]["labels"]["modelyard.dev/toy"] == "a"
        await bench.change(done=True)

        async def gone() -> bool:
            return await bench.get("job", "a-run") is None and not await pods()

        await bench.until("the end of both", gone)
        assert bench.writes("Job") == 2

    engine(scenario)


def test_what_a_resource_owns_goes_with_it_and_what_is_detached_stays(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        await bench.kubectl("delete", "toy", "a")

        async def gone() -> bool:
            return (
                await bench.get("job", "a-run") is None and await bench.get("configmap", "a-settings") is None
            )

        await bench.until("garbage collection", gone, timeout=30)
        assert await bench.get("pvc", "a-storage") is not None
        await bench.create()
        toy = await bench.get("toy", "a")
        assert toy is not None
        assert "a-storage" in toy["status"]["children"]

    engine(scenario)


def test_a_resource_made_anew_under_the_same_name_starts_from_nothing(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        old = await bench.get("job", "a-run")
        await bench.kubectl("delete", "toy", "a", "--wait=true")
        await bench.create()

        async def fresh() -> bool:
            job = await bench.get("job", "a-run")
            return job is not None and old is not None and job["metadata"]["uid"] != old["metadata"]["uid"]

        await bench.until("the new Job", fresh, timeout=40)

    engine(scenario)


def test_what_an_orphaning_deletion_leaves_is_not_taken_for_the_next_resources(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        await bench.kubectl("delete", "toy", "a", "--cascade=orphan", "--wait=true")
        left = await bench.get("job", "a-run")
        assert left is not None and "ownerReferences" not in left["metadata"]
        await bench.create()
        toy = await bench.get("toy", "a")
        assert toy is not None
        assert toy["status"]["refused"] == {"ConfigMap/a-settings": "NameTaken"}
        assert "a-run" not in toy["status"]["children"]

    engine(scenario)


def test_a_name_taken_by_a_users_object_is_reported_and_the_object_left(
    engine: Callable[[Scenario], None],
) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.kubectl("create", "configmap", "a-settings", "--from-literal=value=mine")
        await bench.create()
        toy, users = await bench.get("toy", "a"), await bench.get("configmap", "a-settings")
        assert toy is not None
        assert users is not None
        assert toy["status"]["refused"] == {"ConfigMap/a-settings": "NameTaken"}
        assert users["data"] == {"value": "mine"}
        assert "ownerReferences" not in users["metadata"]

    engine(scenario)


def test_an_event_tells_of_each_transition_once(engine: Callable[[Scenario], None]) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.create()
        selector = "--field-selector=involvedObject.kind=Toy"
        items = json.loads(await bench.kubectl("get", "events", selector, "--output=json"))["items"]
        assert [(e["reason"], e["source"]["component"]) for e in items] == [("Started", "modelyard")]

    engine(scenario)
