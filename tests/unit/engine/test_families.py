"""Custom resources below custom resources, and those that hang on others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from modelyard.engine.packing import Packed
from modelyard.engine.plan import Key, Manifest, Plan, Seen

from tests.fakes.cluster import FakeCluster
from tests.fakes.harness import KINDS, PLANNERS, Engine, resource, run, toy
from tests.fakes.toys import plan_guest

TROOP = Key("Troop", "ns", "t")
GUEST = Key("Guest", "ns", "g")


def start(*resources: Manifest, passes: int = 200) -> tuple[FakeCluster, Engine]:
    cluster = FakeCluster(KINDS)
    for each in resources:
        cluster.create(each)
    engine = Engine(cluster).start()
    asyncio.run(engine.settle(passes))
    return cluster, engine


def status(cluster: FakeCluster, key: Key) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects[key]["status"]
    return found


def pods(cluster: FakeCluster, toys: int) -> None:
    """The Job controller makes a pod for each."""
    for n in range(toys):
        owner = cluster.objects[Key("Job", "ns", f"t-{n}-run")]
        cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": f"t-{n}-run-0",
                    "namespace": "ns",
                    "labels": owner["spec"]["template"]["metadata"]["labels"],
                    "ownerReferences": [{"uid": owner["metadata"]["uid"], "controller": True}],
                },
            }
        )


def test_a_parent_hears_of_its_childrens_states_although_the_operator_wrote_them_itself() -> None:
    cluster = FakeCluster(KINDS)
    cluster.create(resource("Troop", "t", size=3))
    engine = Engine(cluster).start()
    cluster.hold()  # not one watch says a word
    run(engine)
    assert status(cluster, TROOP)["toys"] == {"t-0": True, "t-1": True, "t-2": True}


def test_a_parent_is_not_woken_by_what_happens_below_its_children() -> None:
    cluster, engine = start(resource("Troop", "t", size=2))
    pods(cluster, 2)
    assert set(engine.queue._waiting) == {Key("Toy", "ns", "t-0"), Key("Toy", "ns", "t-1")}
    run(engine)
    done = len(cluster.calls)
    cluster.change(Key("Toy", "ns", "t-0"), lambda o: o["spec"].update(value="another"))
    run(engine)
    assert not [c for c in cluster.calls[done:] if c.key == TROOP]
    assert status(cluster, Key("Toy", "ns", "t-0"))["observedGeneration"] == 2


def test_the_labels_of_what_is_below_a_child_are_the_childs_alone() -> None:
    cluster, _ = start(resource("Troop", "t", size=1))
    job = cluster.objects[Key("Job", "ns", "t-0-run")]
    ours = {"app.kubernetes.io/managed-by": "modelyard", "modelyard.dev/toy": "t-0"}
    assert job["metadata"]["labels"] == ours
    assert job["spec"]["template"]["metadata"]["labels"] == ours
    child = cluster.objects[Key("Toy", "ns", "t-0")]
    assert child["metadata"]["labels"]["modelyard.dev/troop"] == "t"
    (owner,) = child["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Troop", "t", True)


def test_a_pass_of_a_parent_of_hundreds_unpacks_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, engine = start(resource("Troop", "t", size=300), passes=2000)
    assert sum(status(cluster, TROOP)["toys"].values()) == 300
    engine.cache.rest(engine.clock.monotonic() + 1)
    unpacked: list[str] = []
    unpack = Packed.unpack

    def count(packed: Packed) -> Manifest:
        body = unpack(packed)
        unpacked.append(body["kind"])
        return body

    monkeypatch.setattr(Packed, "unpack", count)
    done = len(cluster.calls)
    asyncio.run(engine.controller.process(TROOP))
    # Its own: for the plan, the status, and whoever observes the resources.
    assert unpacked == ["Troop"] * 3
    assert cluster.calls[done:] == []


def test_a_child_that_is_not_planned_any_more_goes_with_all_that_is_below_it() -> None:
    cluster, engine = start(resource("Troop", "t", size=2))
    pods(cluster, 2)
    cluster.change(TROOP, lambda o: o["spec"].update(size=1))
    run(engine)
    left = {str(key) for key in cluster.objects if key.name.startswith("t-1") and "storage" not in key.name}
    assert left == set()
    assert Key("Pod", "ns", "t-0-run-0") in cluster.objects
    assert status(cluster, TROOP)["toys"] == {"t-0": True}


def test_a_deleted_child_comes_back() -> None:
    cluster, engine = start(resource("Troop", "t", size=2))
    cluster.erase(Key("Toy", "ns", "t-0"))
    run(engine)
    assert status(cluster, TROOP)["toys"] == {"t-0": True, "t-1": True}
    assert Key("Job", "ns", "t-0-run") in cluster.objects


def test_only_the_mutable_fields_of_a_child_are_the_parents() -> None:
    cluster, engine = start(resource("Troop", "t", size=1))
    child = Key("Toy", "ns", "t-0")
    cluster.change(child, lambda o: o["spec"].update(value="a user's", suspend=True))
    run(engine)
    assert cluster.objects[child]["spec"] == {"value": "a user's", "suspend": False}
    assert cluster.objects[Key("Job", "ns", "t-0-run")]["spec"]["suspend"] is False


def test_a_plan_gets_its_references_before_anything_of_it_is_done() -> None:
    cluster, _ = start(toy("a", value="7"), resource("Guest", "g", host="a"))
    of_guest = [c.operation for c in cluster.calls if c.key.name.startswith("g")]
    assert of_guest == ["apply", "status"]
    assert status(cluster, GUEST)["value"] == "7"


def test_a_reference_to_nothing_is_answered_and_watched_for() -> None:
    cluster, engine = start(resource("Guest", "g", host="a"))
    assert status(cluster, GUEST)["value"] == "nobody's"
    cluster.create(toy("a"))
    run(engine)
    assert status(cluster, GUEST)["value"] == "1"
    cluster.erase(Key("Toy", "ns", "a"))
    run(engine)
    assert status(cluster, GUEST)["value"] == "nobody's"


def test_references_that_hang_on_references_are_all_followed() -> None:
    cluster, engine = start(
        toy("a", value="7"), resource("Guest", "b", host="a"), resource("Guest", "g", host="b", of="Guest")
    )
    assert status(cluster, GUEST)["value"] == "7"
    cluster.change(Key("Toy", "ns", "a"), lambda o: o["spec"].update(value="8"))
    run(engine)
    assert status(cluster, GUEST)["value"] == "8"


def test_who_does_not_refer_to_it_any_more_is_not_woken() -> None:
    cluster, engine = start(toy("a"), toy("b"), resource("Guest", "g", host="a"))
    cluster.change(GUEST, lambda o: o["spec"].update(host="b"))
    run(engine)
    cluster.change(Key("Toy", "ns", "a"), lambda o: o["spec"].update(value="2"))
    assert set(engine.queue._waiting) == {Key("Toy", "ns", "a")}
    run(engine)
    cluster.erase(GUEST)
    run(engine)
    cluster.change(Key("Toy", "ns", "b"), lambda o: o["spec"].update(value="2"))
    assert set(engine.queue._waiting) == {Key("Toy", "ns", "b")}


@pytest.mark.parametrize("reference", [Key("Toy", "elsewhere", "a"), Key("Job", "ns", "a-run")])
def test_a_plan_that_refers_to_what_it_may_not_read_does_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reference: Key
) -> None:
    def planner(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        return replace(plan_guest(resource, seen, now), references=frozenset({reference}))

    monkeypatch.setitem(PLANNERS, "Guest", planner)
    cluster, _ = start(resource("Guest", "g", host="a"))
    assert cluster.calls == []
    assert f"can't refer to {reference}" in caplog.text


def test_a_plan_that_never_stops_naming_references_does_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def planner(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        more = Key("Toy", "ns", f"a{len(seen.references)}")
        return Plan(status={}, references=frozenset({*seen.references, more}))

    monkeypatch.setitem(PLANNERS, "Guest", planner)
    cluster, _ = start(resource("Guest", "g", host="a"))
    assert cluster.calls == []
    assert "names new references again and again" in caplog.text
