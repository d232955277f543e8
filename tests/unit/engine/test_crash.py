"""The operator dies at every write in turn; the next one reaches the same end, with nothing doubled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from modelyard.engine.plan import Key

from tests.fakes.cluster import Call, Crash, FakeCluster
from tests.fakes.harness import KINDS, Engine, toy
from tests.fakes.toys import plan_toy

TOY_A = Key("Toy", "ns", "a")
STEPS = ("create", "change", "done", "end")


async def live(cluster: FakeCluster, restart: bool) -> None:
    """A life: created, changed, finished, and the Job gone. Restarts wherever the operator dies."""
    engine = Engine(cluster, plan_toy).start()
    for step in STEPS:
        if step == "create":
            cluster.create(toy("a"))
        elif step == "change":
            cluster.change(TOY_A, lambda o: o["spec"].update(value="2", suspend=True))
        elif step == "done":
            cluster.change(TOY_A, lambda o: o["spec"].update(done=True))
        while True:
            try:
                await engine.settle_for(12)
                break
            except Crash:
                assert restart
                cluster.unwatch()
                engine = Engine(cluster, plan_toy).start()


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


def undisturbed() -> FakeCluster:
    cluster = FakeCluster(KINDS)
    asyncio.run(live(cluster, restart=False))
    return cluster


WRITES = len(undisturbed().calls)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
def test_a_crash_at_any_write_changes_nothing_of_the_end(number: int, moment: str) -> None:
    expected = undisturbed()
    cluster = FakeCluster(KINDS)
    crashed: list[str] = []

    def crash(n: int, call: Call) -> None:
        if n == number and not crashed:
            crashed.append(call.operation)
            raise Crash

    setattr(cluster, moment, crash)
    asyncio.run(live(cluster, restart=True))
    assert crashed
    assert end_state(cluster) == end_state(expected)
    assert [e["reason"] for e in cluster.events.values()] == [e["reason"] for e in expected.events.values()]
    # Repeated is at most the write that was cut off, and what tells of it.
    assert len(cluster.calls) <= WRITES + 2


def test_the_undisturbed_life_is_worth_crashing() -> None:
    assert {c.operation for c in undisturbed().calls} == {"apply", "status", "event", "delete"}
