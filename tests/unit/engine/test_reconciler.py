"""One engine over a cluster in memory: what it writes, when, and what it leaves alone."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from modelyard.engine.apply import HASH_ANNOTATION
from modelyard.engine.errors import ClusterError, Conflict, NotFound, Refused, Throttled, Unavailable
from modelyard.engine.plan import Child, Key, Manifest, Plan, Planner, Seen
from modelyard.engine.probe import Probe

from tests.fakes.cluster import Call, FakeCluster
from tests.fakes.harness import KINDS, Engine, run, toy
from tests.fakes.toys import config_map, job, plan_toy

RUN = Key("Job", "ns", "a-run")
SETTINGS = Key("ConfigMap", "ns", "a-settings")
STORAGE = Key("PersistentVolumeClaim", "ns", "a-storage")
TOY_A = Key("Toy", "ns", "a")
FIRST = [
    "apply ConfigMap/a-settings",
    "apply PersistentVolumeClaim/a-storage",
    "apply Job/a-run",
    "event Event/",
    "status Toy/a",
]


def start(planner: Planner = plan_toy, **spec: Any) -> tuple[FakeCluster, Engine]:
    cluster = FakeCluster(KINDS)
    cluster.create(toy("a", **spec))
    engine = Engine(cluster, planner).start()
    run(engine)
    return cluster, engine


def operations(cluster: FakeCluster, since: int = 0) -> list[str]:
    return [op if not op.startswith("event") else "event Event/" for op in cluster.operations()[since:]]


def status(cluster: FakeCluster, key: Key = TOY_A) -> dict[str, Any]:
    found: dict[str, Any] = cluster.objects[key]["status"]
    return found


def test_children_come_in_order_and_one_status_write_tells_of_them_all() -> None:
    cluster, _ = start()
    assert operations(cluster) == FIRST
    assert status(cluster)["children"] == ["a-run", "a-settings", "a-storage"]


def test_in_a_burst_all_get_their_children_before_any_status_is_written() -> None:
    cluster = FakeCluster(KINDS)
    for name in ("a", "b", "c"):
        cluster.create(toy(name))
    run(Engine(cluster, plan_toy).start())
    done = operations(cluster)
    kinds = [op.split("/")[0] for op in done]
    assert [op for op in done if op.startswith("apply Job")] == [
        "apply Job/a-run",
        "apply Job/b-run",
        "apply Job/c-run",
    ]
    assert kinds.index("status Toy") > max(i for i, kind in enumerate(kinds) if kind == "apply Job")
    assert sorted(op for op in done if op.startswith("status")) == [
        "status Toy/a",
        "status Toy/b",
        "status Toy/c",
    ]
    assert len(done) == 3 * len(FIRST)


def test_children_carry_labels_and_the_owner_reference_that_the_plan_left_out() -> None:
    cluster, _ = start()
    made = cluster.objects[RUN]
    labels = {"app.kubernetes.io/managed-by": "modelyard", "modelyard.dev/toy": "a"}
    assert made["metadata"]["labels"] == labels
    assert made["spec"]["template"]["metadata"]["labels"] == labels
    (owner,) = made["metadata"]["ownerReferences"]
    assert owner["uid"] == cluster.objects[TOY_A]["metadata"]["uid"]
    assert owner["controller"] is True
    assert owner["blockOwnerDeletion"] is True
    assert HASH_ANNOTATION in cluster.objects[SETTINGS]["metadata"]["annotations"]


def test_a_settled_resource_costs_no_call_over_ten_more_passes() -> None:
    cluster, engine = start()
    done = len(cluster.calls)
    for _ in range(10):
        engine.controller.enqueue_all()
        run(engine)
    assert cluster.operations()[done:] == []


def test_a_restart_costs_no_call() -> None:
    cluster, _ = start()
    done = len(cluster.calls)
    cluster.unwatch()
    run(Engine(cluster, plan_toy).start(), seconds=30)
    assert cluster.operations()[done:] == []


def test_a_change_of_the_spec_applies_only_what_differs() -> None:
    cluster, engine = start()
    done = len(cluster.calls)
    cluster.change(TOY_A, lambda o: o["spec"].update(value="2"))
    run(engine)
    assert operations(cluster, done) == ["apply ConfigMap/a-settings", "status Toy/a"]
    assert cluster.objects[SETTINGS]["data"] == {"value": "2"}


def test_what_others_change_in_a_child_is_repaired_at_once() -> None:
    cluster, engine = start()
    done = len(cluster.calls)
    cluster.change(SETTINGS, lambda o: o.update(data={"value": "hacked"}))
    run(engine)
    assert cluster.objects[SETTINGS]["data"] == {"value": "1"}
    assert operations(cluster, done) == ["apply ConfigMap/a-settings"]


def test_what_others_add_to_a_child_is_left_alone() -> None:
    cluster, engine = start()
    done = len(cluster.calls)
    cluster.change(
        SETTINGS, lambda o: o["metadata"].update(annotations=o["metadata"]["annotations"] | {"x": "y"})
    )
    run(engine)
    assert cluster.operations()[done:] == []


def test_a_deleted_child_comes_back() -> None:
    cluster, engine = start()
    cluster.erase(RUN)
    run(engine)
    assert RUN in cluster.objects


def test_a_child_that_left_the_plan_is_deleted_and_what_it_owned_with_it() -> None:
    cluster, engine = start()
    cluster.change(TOY_A, lambda o: o["spec"].update(done=True))
    run(engine)
    assert RUN not in cluster.objects
    assert {SETTINGS, STORAGE} <= set(cluster.objects)


def test_a_kept_child_is_neither_applied_nor_deleted() -> None:
    def planner(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        plan = plan_toy(resource, seen, now)
        return replace(plan, children=plan.children[:2], keep=frozenset({"Job/a-run"}))

    cluster, _ = start()
    done = len(cluster.calls)
    cluster.unwatch()
    run(Engine(cluster, planner).start())
    assert cluster.operations()[done:] == []
    assert RUN in cluster.objects


def test_a_detached_child_outlives_its_owner_and_serves_the_next_of_that_name() -> None:
    cluster, engine = start()
    uid = cluster.objects[STORAGE]["metadata"]["uid"]
    assert "ownerReferences" not in cluster.objects[STORAGE]["metadata"]
    cluster.erase(TOY_A)
    run(engine)
    assert set(cluster.objects) == {STORAGE}
    cluster.create(toy("a"))
    run(engine)
    assert cluster.objects[STORAGE]["metadata"]["uid"] == uid
    assert "a-storage" in status(cluster)["children"]


def test_an_immutable_child_is_changed_only_in_its_mutable_paths() -> None:
    image = {"value": "i"}

    def planner(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        suspend = bool(resource["spec"].get("suspend"))
        child = Child(
            job("a-run", image["value"], suspend), immutable=True, mutable={"spec.suspend": suspend}
        )
        return Plan(status={"observedGeneration": 1}, children=(child,))

    cluster, engine = start(planner)
    done = len(cluster.calls)
    image["value"] = "another"
    cluster.change(TOY_A, lambda o: o["spec"].update(suspend=True))
    run(engine)
    made = cluster.objects[RUN]
    assert made["spec"]["suspend"] is True
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "i"
    assert [(c.operation, c.manager) for c in cluster.calls[done:]] == [("apply", "modelyard-mutable")]


def test_nothing_of_an_earlier_resource_of_that_name_is_seen_or_adopted() -> None:
    cluster, engine = start()
    old = cluster.objects[RUN]
    cluster.unwatch()
    del cluster.objects[TOY_A]  # deleted, and the garbage collector has not come round yet
    cluster.create(toy("a"))
    engine = Engine(cluster, plan_toy).start()
    run(engine)
    assert cluster.objects[RUN] == old
    # Its first child's name is taken, and what comes behind it waits.
    assert status(cluster)["refused"] == {"ConfigMap/a-settings": "Terminating"}
    cluster.erase(SETTINGS)
    cluster.erase(RUN)
    run(engine)
    assert (
        cluster.objects[RUN]["metadata"]["ownerReferences"][0]["uid"]
        == cluster.objects[TOY_A]["metadata"]["uid"]
    )
    assert status(cluster)["refused"] == {}


@pytest.mark.parametrize("value", ["mine", "1"])  # the second is what ours would say
def test_a_users_own_object_of_a_childs_name_is_not_taken_over(value: str) -> None:
    cluster = FakeCluster(KINDS)
    users = config_map("a-settings", value=value)
    users["metadata"]["namespace"] = "ns"
    users = copy.deepcopy(cluster.create(users))
    cluster.create(toy("a"))
    engine = Engine(cluster, plan_toy).start()
    run(engine)
    assert cluster.objects[SETTINGS] == users
    assert status(cluster)["refused"] == {"ConfigMap/a-settings": "NameTaken"}
    cluster.erase(TOY_A)
    run(engine)
    assert SETTINGS in cluster.objects


def test_a_child_that_was_made_though_no_answer_came_is_gone_on_with() -> None:
    cluster = FakeCluster(KINDS)
    cluster.create(toy("a"))
    engine = Engine(cluster, plan_toy).start()
    cluster.hold()  # no watch tells of it either

    def lose(number: int, call: Call) -> None:
        if number == 1:
            raise Unavailable("no answer")

    cluster.after = lose
    run(engine, 5)
    assert cluster.operations().count("apply ConfigMap/a-settings") == 2
    assert operations(cluster)[-3:] == FIRST[-3:]
    assert status(cluster)["refused"] == {}
    cluster.flush()
    done = len(cluster.calls)
    run(engine, 5)
    assert len(cluster.calls) == done
    assert [e["reason"] for e in cluster.events.values()] == ["Started"]


def test_a_conflict_over_something_else_than_the_name_is_no_taken_name() -> None:
    cluster = FakeCluster(KINDS)
    cluster.create(toy("a"))
    trouble = [Conflict("the quota has been modified")] * 3
    cluster.refuse = lambda manifest: trouble.pop() if trouble else None
    engine = Engine(cluster, plan_toy).start()
    run(engine, 5)
    assert RUN in cluster.objects
    assert status(cluster)["refused"] == {}
    assert all(e["type"] == "Normal" for e in cluster.events.values())


def test_a_namespace_that_is_gone_is_no_refused_child() -> None:
    cluster = FakeCluster(KINDS)
    cluster.create(toy("a"))
    cluster.refuse = lambda manifest: NotFound('namespaces "ns" not found')
    run(Engine(cluster, plan_toy).start(), 5)
    assert status(cluster) == {"observedGeneration": -1}


def test_what_an_earlier_resource_has_left_behind_is_not_taken_for_this_ones() -> None:
    cluster, engine = start()
    for key in (SETTINGS, RUN):  # as `kubectl delete --cascade=orphan` does
        cluster.change(key, lambda o: o["metadata"].pop("ownerReferences"))
    cluster.erase(TOY_A)
    run(engine)
    cluster.create(toy("a"))
    run(engine)
    assert status(cluster)["refused"] == {"ConfigMap/a-settings": "NameTaken"}
    assert set(status(cluster)["children"]).isdisjoint({"a-run", "a-settings"})
    assert "ownerReferences" not in cluster.objects[RUN]["metadata"]


def test_a_child_that_is_ending_is_waited_for() -> None:
    cluster, engine = start()
    done = len(cluster.calls)
    cluster.change(RUN, lambda o: o["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    run(engine, seconds=3)
    assert "apply Job/a-run" not in cluster.operations()[done:]
    assert status(cluster)["refused"] == {"Job/a-run": "Terminating"}
    cluster.erase(RUN)
    run(engine)
    assert "apply Job/a-run" in cluster.operations()[done:]


def test_a_refusal_reaches_the_status_holds_back_what_follows_and_is_tried_again() -> None:
    cluster = FakeCluster(KINDS)
    full = Refused("QuotaExceeded", "exceeded quota: team")
    cluster.refuse = lambda m: full if m["kind"] == "PersistentVolumeClaim" else None
    cluster.create(toy("a"))
    engine = Engine(cluster, plan_toy).start()
    run(engine, seconds=30)
    assert status(cluster)["refused"] == {"PersistentVolumeClaim/a-storage": "QuotaExceeded"}
    assert RUN not in cluster.objects
    asked = cluster.operations().count("apply PersistentVolumeClaim/a-storage")
    assert 5 < asked < 20  # less and less often
    assert cluster.operations().count("status Toy/a") == 1
    cluster.refuse = lambda m: None
    run(engine, seconds=61)
    assert RUN in cluster.objects
    assert status(cluster)["refused"] == {}


def test_a_refused_status_is_told_by_an_event_and_a_metric_and_tried_less_and_less_often() -> None:
    cluster = FakeCluster(KINDS)
    no = Refused("Invalid", "status.step: must be an integer")
    cluster.refuse = lambda m: no if "status" in m else None
    cluster.create(toy("a"))
    engine = Engine(cluster, plan_toy).start()
    run(engine, seconds=30)
    assert RUN in cluster.objects, "what runs does not wait for words"
    told = [e for e in cluster.events.values() if e["reason"] == "StatusRefused"]
    assert len(told) == 1
    assert "must be an integer" in told[0]["message"]
    assert 3 <= cluster.operations().count("status Toy/a") <= 6
    assert 'modelyard_refused_writes_total{kind="Toy",operation="status"}' in engine.metrics.render().decode()
    for step in range(20):  # news from pods don't make it try more often
        engine.facts.answers[TOY_A] = {"agent": {"step": step}}
        engine.queue.add(TOY_A)
        run(engine, seconds=1)
    assert cluster.operations().count("status Toy/a") <= 7
    cluster.refuse = lambda m: None
    run(engine, seconds=61)
    assert status(cluster)["step"] == 19


def test_each_written_status_is_told_of_once_with_the_one_it_took_the_place_of() -> None:
    cluster = FakeCluster(KINDS)
    cluster.create(toy("a"))
    engine = Engine(cluster, plan_toy).start()
    told: list[tuple[Any, Any]] = []

    def note(key: Key, resource: Manifest, status: Mapping[str, Any]) -> None:
        told.append((resource.get("status"), status))

    engine.metrics.reported = note  # type: ignore[method-assign]
    run(engine)
    cluster.change(TOY_A, lambda resource: resource["spec"].update(value="2"))
    run(engine)
    first, second = told
    assert first[0] == {"observedGeneration": -1}
    assert first[1] == second[0] != second[1] == status(cluster)
    restarted = Engine(cluster, plan_toy).start()
    restarted.metrics.reported = note  # type: ignore[method-assign]
    run(restarted)
    assert len(told) == 2


def test_a_deleted_resource_is_left_to_the_garbage_collector() -> None:
    cluster, engine = start()
    done = len(cluster.calls)
    cluster.change(TOY_A, lambda o: o["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    cluster.erase(RUN)
    run(engine)
    assert cluster.operations()[done:] == []
    assert engine.facts.watched[TOY_A] == ()


def test_a_plan_can_end_its_resource() -> None:
    cluster, engine = start(lambda r, s, n: Plan(status={}, delete=True))
    run(engine)
    assert cluster.operations() == ["delete Toy/a"]
    assert TOY_A not in cluster.objects


def test_probes_are_handed_on_and_their_answers_come_back() -> None:
    probe = Probe("agent", "ns", "p", "10.0.0.1", 9400, "/v1/progress")
    cluster, engine = start(lambda r, s, n: replace(plan_toy(r, s, n), probes=(probe,)))
    assert engine.facts.watched[TOY_A] == (probe,)
    engine.facts.answers[TOY_A] = {"agent": {"step": 7}}
    engine.queue.add(TOY_A)
    run(engine, seconds=10)
    assert status(cluster)["step"] == 7


def test_a_volatile_field_alone_is_written_at_most_every_ten_seconds() -> None:
    cluster, engine = start()

    async def train() -> None:
        for step in range(1, 61):
            engine.facts.answers[TOY_A] = {"agent": {"step": step}}
            engine.queue.add(TOY_A)
            await engine.settle_for(1)

    done = len(cluster.calls)
    asyncio.run(train())
    assert len(cluster.calls) - done == 6
    assert set(operations(cluster, done)) == {"status Toy/a"}


def test_a_field_that_is_not_volatile_takes_the_waiting_ones_along_at_once() -> None:
    cluster, engine = start()
    engine.facts.answers[TOY_A] = {"agent": {"step": 3}}
    cluster.change(TOY_A, lambda o: o["spec"].update(value="2"))
    run(engine)
    assert status(cluster)["step"] == 3
    assert status(cluster)["observedGeneration"] == 2


def test_a_field_that_the_schema_drops_is_not_written_for_ever() -> None:
    cluster = FakeCluster(KINDS)

    def drop(n: int, call: Call) -> None:
        cluster.objects.get(TOY_A, {}).get("status", {}).pop("unknown", None)

    cluster.after = drop
    cluster.create(toy("a"))
    engine = Engine(cluster, lambda r, s, n: Plan(status={"observedGeneration": 1, "unknown": 1})).start()
    run(engine, seconds=30)
    assert operations(cluster) == ["status Toy/a"]


def test_a_value_that_the_server_writes_its_own_way_is_not_applied_for_ever() -> None:
    cluster = FakeCluster(KINDS)

    def mutate(n: int, call: Call) -> None:  # a mutating webhook
        if call.key == SETTINGS:
            cluster.objects[SETTINGS]["data"]["value"] = "webhook's"

    cluster.after = mutate
    cluster.create(toy("a"))
    run(Engine(cluster, plan_toy).start(), seconds=5)
    assert cluster.operations().count("apply ConfigMap/a-settings") == 1


def test_others_conditions_are_kept_and_cause_no_writes() -> None:
    ours = {"type": "Ready", "status": "True"}
    planner: Planner = lambda r, s, n: Plan(status={"observedGeneration": 1, "conditions": [ours]})  # noqa: E731
    cluster, engine = start(planner)
    done = len(cluster.calls)
    cluster.change(TOY_A, lambda o: o["status"]["conditions"].append({"type": "Theirs", "status": "True"}))
    run(engine, seconds=20)
    assert len(cluster.calls) - done <= 1  # none where lists merge by key, one where they are replaced


def test_a_plan_that_raises_is_repeated_with_backoff_and_harms_no_other() -> None:
    def planner(resource: Manifest, seen: Seen, now: datetime) -> Plan:
        if resource["metadata"]["name"] == "bad":
            raise ValueError("a bug")
        return plan_toy(resource, seen, now)

    cluster = FakeCluster(KINDS)
    cluster.create(toy("bad"))
    cluster.create(toy("a"))
    engine = Engine(cluster, planner).start()
    run(engine, seconds=60)
    assert RUN in cluster.objects
    assert engine.passes < 30


@pytest.mark.parametrize(
    "error", [Unavailable("503"), Throttled("429", 2.0), Conflict("409"), ClusterError("odd"), TimeoutError()]
)
@pytest.mark.parametrize("operation", ["apply", "status", "event"])
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_failed_call_is_made_good_whatever_failed(error: Exception, operation: str, lost: str) -> None:
    """Also where the write took effect and only its answer was lost."""
    cluster = FakeCluster(KINDS)
    failed: list[int] = []

    def fail(n: int, call: Call) -> None:
        # A create that conflicts means a taken name; later applies conflict by races.
        if (
            call.operation == operation
            and not failed
            and not (isinstance(error, Conflict) and operation == "apply")
        ):
            failed.append(n)
            raise error

    setattr(cluster, "before" if lost == "request" else "after", fail)
    cluster.create(toy("a"))
    engine = Engine(cluster, plan_toy).start()
    run(engine, seconds=70)
    assert status(cluster)["children"] == ["a-run", "a-settings", "a-storage"]
    assert len(cluster.events) == 1
    assert len(cluster.calls) <= len(FIRST) + 5
