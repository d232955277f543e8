"""Children of kinds that a cluster may have or not."""

from __future__ import annotations

from typing import Any

from modelyard.engine.plan import Key

from tests.fakes.cluster import FakeCluster
from tests.fakes.harness import KINDS, Engine, resource, run

LISTENER = Key("Listener", "ns", "l")
GADGET = Key("Gadget", "ns", "l")


def start(**spec: Any) -> tuple[FakeCluster, Engine]:
    cluster = FakeCluster(KINDS)
    cluster.create(resource("Listener", "l", pod="p", port=1, numbers=[], **spec))
    engine = Engine(cluster).start()
    run(engine)
    return cluster, engine


def status(cluster: FakeCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects[LISTENER]["status"]
    return found


def test_a_plan_hears_of_an_optional_kind_that_comes_and_goes() -> None:
    cluster, engine = start()
    assert GADGET not in cluster.objects
    cluster.served.add("Gadget")
    engine.controller.serves("Gadget", True)
    run(engine)
    assert GADGET in cluster.objects
    assert status(cluster)["gadgets"] == 1
    cluster.erase(GADGET)  # with its definition go its objects
    cluster.served.clear()
    engine.controller.serves("Gadget", False)
    run(engine)
    assert status(cluster)["gadgets"] == 0
    assert status(cluster)["refused"] == "nothing"


def test_a_child_of_a_kind_that_is_not_served_is_refused_without_a_call_and_made_once_it_is() -> None:
    cluster, engine = start(insists=True)
    run(engine, seconds=300)
    assert status(cluster)["refused"] == "Gadget/l: NotServed"
    assert {c.key.kind for c in cluster.calls} == {"Listener"}
    cluster.served.add("Gadget")
    engine.controller.serves("Gadget", True)
    run(engine)
    assert status(cluster)["refused"] == "nothing"
    assert GADGET in cluster.objects


def test_being_told_again_what_is_known_wakes_nobody() -> None:
    _, engine = start()
    engine.controller.serves("Gadget", False)
    assert len(engine.queue) == 0
    engine.controller.serves("Gadget", True)
    assert len(engine.queue) == 1
    run(engine)
    engine.controller.serves("Gadget", True)
    assert len(engine.queue) == 0
