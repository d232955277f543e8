"""The operator dies at every write in turn; the next one reaches the same end, with nothing doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from modelyard.engine.plan import Key

from tests.fakes.cluster import Call, Crash, FakeCluster
from tests.fakes.harness import KINDS, Engine, resource, toy

Step = Callable[[FakeCluster], object]


def edit(kind: str, name: str, **spec: Any) -> Step:
    """Somebody changes a spec."""
    return lambda cluster: cluster.change(Key(kind, "ns", name), lambda o: o["spec"].update(spec))


# Created, changed, finished, and the Job gone; parents of parents, which shrink; one who refers to another that
# changes, goes and comes back.
LIVES: dict[str, tuple[Step, ...]] = {
    "toy": (
        lambda cluster: cluster.create(toy("a")),
        edit("Toy", "a", value="2", suspend=True),
        edit("Toy", "a", done=True),
    ),
    "troop": (
        lambda cluster: cluster.create(resource("Troop", "t", size=2)),
        edit("Troop", "t", suspend=True),
        edit("Troop", "t", size=1),
    ),
    "guest": (
        lambda cluster: cluster.create(resource("Guest", "g", host="a")),
        lambda cluster: cluster.create(toy("a")),
        edit("Toy", "a", value="2"),
        lambda cluster: cluster.erase(Key("Toy", "ns", "a")),
        lambda cluster: cluster.create(toy("a", value="3")),
    ),
}


async def live(cluster: FakeCluster, life: str, restart: bool) -> None:
    """A life from its first step to its last. Restarts wherever the operator dies."""
    engine = Engine(cluster).start()
    for step in LIVES[life]:
        step(cluster)
        while True:
            try:
                await engine.settle_for(12)
                break
            except Crash:
                assert restart
                cluster.unwatch()
                engine = Engine(cluster).start()


def end_state(cluster: FakeCluster) -> dict[str, Any]:
    """All objects without what counts or names a moment."""
    state: dict[str, Any] = {}
    for key, obj in cluster.objects.items():
        metadata = {
            k: v for k, v in obj["metadata"].items() if k in ("name", "labels", "annotations", "generation")
        }
        metadata["annotations"] = sorted(metadata.get("annotations") or ())
        state[str(key)] = obj | {"metadata": metadata}
    return state


def undisturbed(life: str) -> FakeCluster:
    cluster = FakeCluster(KINDS)
    asyncio.run(live(cluster, life, restart=False))
    return cluster


WRITES = {life: len(undisturbed(life).calls) for life in LIVES}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("life", "number"), [(life, n + 1) for life in LIVES for n in range(WRITES[life])])
def test_a_crash_at_any_write_changes_nothing_of_the_end(life: str, number: int, moment: str) -> None:
    expected = undisturbed(life)
    cluster = FakeCluster(KINDS)
    crashed: list[str] = []

    def crash(n: int, call: Call) -> None:
        if n == number and not crashed:
            crashed.append(call.operation)
            raise Crash

    setattr(cluster, moment, crash)
    asyncio.run(live(cluster, life, restart=True))
    assert crashed
    assert end_state(cluster) == end_state(expected)
    assert sorted(e["reason"] for e in cluster.events.values()) == sorted(
        e["reason"] for e in expected.events.values()
    )
    # Repeated is at most the write that was cut off, and what tells of it.
    assert len(cluster.calls) <= WRITES[life] + 2


@pytest.mark.parametrize("life", LIVES)
def test_the_undisturbed_life_is_worth_crashing(life: str) -> None:
    assert {c.operation for c in undisturbed(life).calls} == {"apply", "status", "event", "delete"}


def test_parents_of_parents_reach_what_each_of_them_wants() -> None:
    cluster = undisturbed("troop")
    jobs = {key.name: obj["spec"]["suspend"] for key, obj in cluster.objects.items() if key.kind == "Job"}
    assert jobs == {"t-0-run": True}
    assert cluster.objects[Key("Troop", "ns", "t")]["status"]["toys"] == {"t-0": True}


def test_one_who_refers_follows_the_other() -> None:
    cluster = undisturbed("guest")
    assert cluster.objects[Key("ConfigMap", "ns", "g-guest")]["data"] == {"value": "3"}
