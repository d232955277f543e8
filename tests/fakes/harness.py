"""The whole engine over the fake cluster and clock, run by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.engine.cache import Cache
from modelyard.engine.controller import Controller
from modelyard.engine.guard import Guard
from modelyard.engine.kinds import Kind, Kinds
from modelyard.engine.plan import Key, Manifest, Planner
from modelyard.engine.probe import Age, Question
from modelyard.engine.queue import WorkQueue
from modelyard.engine.reconciler import Reconciler
from modelyard.telemetry.metrics import Metrics

from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.toys import digest_toy, plan_guest, plan_listener, plan_toy, plan_troop

GROUP = ("modelyard.dev", "v1alpha1")
TOY = Kind("Toy", *GROUP, "toys", owner_label="modelyard.dev/toy", digest=digest_toy)
TROOP = Kind("Troop", *GROUP, "troops", owner_label="modelyard.dev/troop")
GUEST = Kind("Guest", *GROUP, "guests", owner_label="modelyard.dev/guest")
LISTENER = Kind("Listener", *GROUP, "listeners", owner_label="modelyard.dev/listener")
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps")
GADGET = Kind("Gadget", *GROUP, "gadgets", optional=True)
KINDS = Kinds(
    [
        TOY,
        TROOP,
        GUEST,
        LISTENER,
        GADGET,
        CONFIG_MAP,
        Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", detachable=True),
        Kind("Job", "batch", "v1", "jobs"),
        Kind("Pod", "", "v1", "pods", remembered=True),
    ]
)
PLANNERS: dict[str, Planner] = {
    "Toy": plan_toy,
    "Troop": plan_troop,
    "Guest": plan_guest,
    "Listener": plan_listener,
}


class FakeFacts:
    """Implements `engine.ports.Facts`: answers are what a test put there, as old as `ages_told` says."""

    def __init__(self) -> None:
        self.ages_told: dict[Key, dict[str, Age]] = {}
        self.watched: dict[Key, tuple[Question, ...]] = {}
        self.answers: dict[Key, dict[str, dict[str, Any]]] = {}

    def watch(self, key: Key, probes: Sequence[Question]) -> None:
        """Remembers what should be asked. What is asked no more has no answer."""
        before = {p.name for p in self.watched.get(key, ())}
        self.watched[key] = tuple(probes)
        for name in before - {p.name for p in probes}:
            self.answers.get(key, {}).pop(name, None)
            self.ages_told.get(key, {}).pop(name, None)

    def of(self, key: Key) -> Mapping[str, Mapping[str, Any]]:
        """What the test says."""
        return self.answers.get(key, {})

    def ages(self, key: Key) -> Mapping[str, Age]:
        """How old that is."""
        return self.ages_told.get(key, {})


class Engine:
    """One operator's engine. A new one over the same cluster is a restart."""

    def __init__(
        self,
        cluster: FakeCluster,
        planner: Planner = plan_toy,
        clock: FakeClock | None = None,
        planners: Mapping[str, Planner] = PLANNERS,
    ) -> None:
        """`planner` is the one of Toys; `planners` are those of the other kinds."""
        self.cluster = cluster
        self.clock = clock or FakeClock()
        self.metrics = Metrics()
        self.cache = Cache(cluster.kinds)
        self.queue = WorkQueue(self.clock, self.metrics, jitter=lambda: 0.0)
        self.doubtful: list[str] = []
        self.guard = Guard(self.cache, self.clock, self.doubtful.append)
        self.facts = FakeFacts()
        self.reconciler = Reconciler(
            kinds=cluster.kinds,
            planners={**planners, TOY.name: planner},
            cache=self.cache,
            guard=self.guard,
            cluster=cluster,
            facts=self.facts,
            clock=self.clock,
            observer=self.metrics,
            wake=self.queue.add,
            crowded=lambda: self.queue.crowded,
        )
        self.controller = Controller(
            kinds=cluster.kinds,
            cache=self.cache,
            guard=self.guard,
            queue=self.queue,
            reconciler=self.reconciler,
            clock=self.clock,
            observer=self.metrics,
        )
        self.passes = 0

    def start(self) -> Engine:
        """Lists, then begins, with no workers of its own: `settle` does their work."""
        self.cluster.watch(self.controller.observe)
        self.controller.start(0)
        return self

    async def settle(self, limit: int = 200) -> None:
        """Works off what waits now; fails where that does not end."""
        for _ in range(limit):
            if not len(self.queue):
                return
            key = await self.queue.get()
            assert key is not None
            self.passes += 1
            await self.controller.process(key)
            self.queue.done(key)
        raise AssertionError(f"still busy after {limit} passes: {self.cluster.operations()[-10:]}")

    async def settle_for(self, seconds: float, step: float = 1.0) -> None:
        """Works, and lets time go by."""
        await self.settle()
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            await self.settle()


def run(engine: Engine, seconds: float = 0.0) -> None:
    """Settles an engine from a plain test."""
    asyncio.run(engine.settle_for(seconds))


def resource(kind: str, name: str, **spec: Any) -> Manifest:
    """A custom resource."""
    return {
        "apiVersion": KINDS[kind].api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "ns"},
        "spec": spec,
    }


def toy(name: str = "a", **spec: Any) -> Manifest:
    """A Toy."""
    return resource("Toy", name, **spec)
