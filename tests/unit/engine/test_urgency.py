"""What comes first where all is looked at."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest
from modelyard.engine.plan import Key, Manifest, Plan, Seen
from modelyard.engine.urgency import Urgency, urgency

from tests.fakes.cluster import FakeCluster
from tests.fakes.harness import KINDS, Engine, run, toy

RECONCILING = {"type": "Reconciling", "status": "True"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, Urgency.NEW),
        ({}, Urgency.NEW),
        ({"observedGeneration": 1}, Urgency.NEW),
        ({"observedGeneration": 1, "conditions": [RECONCILING]}, Urgency.NEW),
        ({"observedGeneration": 2, "conditions": [RECONCILING]}, Urgency.UNDER_WAY),
        ({"observedGeneration": 2, "conditions": [RECONCILING | {"status": "False"}]}, Urgency.AT_REST),
        ({"observedGeneration": 2, "conditions": [{"type": "Stalled", "status": "True"}]}, Urgency.AT_REST),
        ({"observedGeneration": 2}, Urgency.AT_REST),
    ],
)
def test_urgency_follows_kstatus(status: dict[str, Any] | None, expected: Urgency) -> None:
    resource: Manifest = {"metadata": {"name": "a", "generation": 2}, "status": status}
    assert urgency(resource) is expected
    resource["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert urgency(resource) is Urgency.NEW


def plan(resource: Manifest, seen: Seen, now: datetime) -> Plan:
    conditions = [RECONCILING] if resource["spec"]["value"] == "runs" else []
    return Plan(status={"observedGeneration": resource["metadata"]["generation"], "conditions": conditions})


def test_at_a_start_what_is_new_comes_first_and_what_comes_meanwhile_before_what_is_at_rest() -> None:
    cluster = FakeCluster(KINDS)
    for name, value in (("a-done", "done"), ("b-runs", "runs"), ("c-done", "done")):
        cluster.create(toy(name, value=value))
    run(Engine(cluster, plan).start())
    cluster.unwatch()
    cluster.create(toy("d-new"))
    looked: list[str] = []

    def note(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        looked.append(resource["metadata"]["name"])
        return plan(resource, seen, now)

    engine = Engine(cluster, note).start()
    cluster.create(toy("e-created-after-the-listing"))
    asyncio.run(engine.settle())
    order = list(dict.fromkeys(looked))
    assert order == ["d-new", "b-runs", "e-created-after-the-listing", "a-done", "c-done"]


def test_what_is_edited_while_it_waits_at_rest_is_not_at_rest_any_more() -> None:
    cluster = FakeCluster(KINDS)
    for name in ("a", "b", "c"):
        cluster.create(toy(name, value="done"))
    run(Engine(cluster, plan).start())
    cluster.unwatch()
    looked: list[str] = []

    def note(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        looked.append(resource["metadata"]["name"])
        return plan(resource, seen, now)

    engine = Engine(cluster, note).start()
    cluster.change(Key("Toy", "ns", "c"), lambda o: o["spec"].update(value="runs"))
    asyncio.run(engine.settle())
    assert list(dict.fromkeys(looked)) == ["c", "a", "b"]


def test_at_rest_is_no_reason_not_to_be_looked_at() -> None:
    cluster = FakeCluster(KINDS)
    cluster.create(toy("a", value="done"))
    engine = Engine(cluster, plan).start()
    run(engine)
    before = engine.passes
    assert engine.cache.urgency(Key("Toy", "ns", "a")) is Urgency.AT_REST
    engine.controller.enqueue_all()
    run(engine)
    assert engine.passes == before + 1
