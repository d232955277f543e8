"""What belongs to whom, and what is kept of it."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.engine.cache import REMEMBERED, Cache
from modelyard.engine.managed import find_scale_writers
from modelyard.engine.plan import Key, Manifest

from tests.fakes.harness import KINDS

OWNER = Key("Toy", "ns", "a")
TROOP = Key("Troop", "ns", "t")


def obj(
    kind: str, name: str, uid: str, owner: str | None, version: int = 1, namespace: str = "ns"
) -> Manifest:
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": uid,
        "resourceVersion": str(version),
        "labels": {"modelyard.dev/toy": "a"},
        "managedFields": [{"manager": "x"}],
    }
    if owner is not None:
        metadata["ownerReferences"] = [{"uid": "other"}, {"uid": owner, "controller": True}]
    return {"kind": kind, "apiVersion": "v1", "metadata": metadata}


def names(cache: Cache, uid: str) -> list[str]:
    return [c["metadata"]["name"] for c in cache.children(OWNER, uid)[0]]


def fill() -> Cache:
    cache = Cache(KINDS)
    for item in (
        obj("Job", "run", "job", "toy"),
        obj("Pod", "run-0", "pod", "job"),
        obj("Pod", "stray", "stray", "old-job"),
        obj("Job", "old-run", "old-job-2", "old-toy"),
        obj("PersistentVolumeClaim", "storage", "claim", None),
        obj("ConfigMap", "elsewhere", "far", "toy", namespace="other"),
    ):
        cache.put(item, 0.0)
    return cache


def test_children_are_those_whose_owners_lead_to_that_uid_and_the_detached() -> None:
    assert names(fill(), "toy") == ["run", "storage", "run-0"]
    assert names(fill(), "old-toy") == ["old-run", "storage"]


def test_of_managed_fields_only_those_are_kept_that_have_set_the_size() -> None:
    found = fill().get(Key("Job", "ns", "run"))
    assert found is not None
    assert "managedFields" not in found["metadata"]

    cache = Cache(KINDS)
    scaled = obj("Job", "run", "job", "toy")
    scaled["metadata"]["managedFields"] = [
        {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}},
        {"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {"f:status": {}}},
        {"manager": "kubectl", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]
    cache.put(scaled, 0.0)
    kept = cache.get(Key("Job", "ns", "run"))
    assert kept is not None
    assert kept["metadata"]["managedFields"] == [{"manager": "kubectl", "subresource": "scale"}]
    assert find_scale_writers(kept) == ("kubectl",)


def test_equal_and_older_versions_are_no_news() -> None:
    cache = Cache(KINDS)
    assert cache.put(obj("Job", "run", "job", "toy", 5), 0.0) == (OWNER,)
    assert cache.put(obj("Job", "run", "job", "toy", 5), 0.0) is None
    assert cache.put(obj("Job", "run", "job", "toy", 4), 0.0) is None
    assert cache.put(obj("Job", "run", "job", "toy", 10), 0.0) == (OWNER,)  # as numbers, not as text


def test_an_object_that_changes_its_label_changes_its_owner() -> None:
    cache = fill()
    moved = obj("Job", "run", "job", "toy", 7)
    moved["metadata"]["labels"] = {"modelyard.dev/toy": "b"}
    cache.put(moved, 0.0)
    assert "run" not in names(cache, "toy")
    assert [k.name for k, _ in cache.below(Key("Toy", "ns", "b"), "toy")] == ["run"]


def test_a_removed_object_leaves_no_trace() -> None:
    cache = fill()
    cache.remove(Key("Job", "ns", "run"))
    assert names(cache, "toy") == ["storage"]
    assert cache.count("Job") == 1
    cache.remove(Key("Job", "ns", "run"))
    assert cache.count("Job") == 1


def test_objects_at_rest_are_packed_and_come_out_the_same() -> None:
    cache = fill()
    before = cache.children(OWNER, "toy")
    cache.put(obj("Job", "late", "late", "toy"), 50.0)
    cache.rest(before=40.0)
    packed = cache.entry(Key("Job", "ns", "run"))
    late = cache.entry(Key("Job", "ns", "late"))
    assert packed is not None
    assert late is not None
    assert packed.body is not packed.body  # unpacked anew each time
    assert late.body is late.body
    cache.remove(Key("Job", "ns", "late"))
    assert cache.children(OWNER, "toy") == before


def toy(version: int, **status: Any) -> Manifest:
    """A Toy below a Troop."""
    below = obj("Toy", "a", "toy", "troop", version)
    below["metadata"]["labels"] = {"modelyard.dev/troop": "t"}
    return below | {"spec": {}, "status": status}


def test_a_change_concerns_the_resource_itself_and_those_its_labels_name() -> None:
    cache = Cache(KINDS)
    assert cache.put(toy(1), 0.0) == (OWNER, TROOP)
    assert cache.put(obj("Pod", "p", "p", None), 0.0) == (OWNER,)
    stray = obj("Pod", "q", "q", None)
    del stray["metadata"]["labels"]
    assert cache.put(stray, 0.0) == ()
    moved = obj("Pod", "p", "p", None, 2)
    moved["metadata"]["labels"] = {"modelyard.dev/toy": "b"}
    assert cache.put(moved, 0.0) == (Key("Toy", "ns", "b"), OWNER)  # the former owner has lost one
    assert cache.depart(moved, 0.0) == (Key("Toy", "ns", "b"),)


def test_an_owner_is_concerned_when_the_digest_changes_and_at_the_beginning_and_the_end() -> None:
    cache = Cache(KINDS)
    assert cache.put(toy(1, step=1), 0.0) == (OWNER, TROOP)
    assert cache.put(toy(2, step=2), 0.0) == (OWNER,)
    assert cache.put(toy(3, children=["a-run"]), 0.0) == (OWNER, TROOP)
    ending = toy(4, children=["a-run"])
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert cache.put(ending, 0.0) == (OWNER, TROOP)
    another = toy(5, children=["a-run"])
    another["metadata"]["uid"] = "another"
    assert cache.put(another, 0.0) == (OWNER, TROOP)
    assert cache.depart(another, 0.0) == (OWNER, TROOP)


def test_an_owner_sees_the_digests_of_its_children_and_no_bodies() -> None:
    cache = Cache(KINDS)
    cache.put(toy(1, children=["a-run"]), 0.0, at_rest=True)
    cache.put(obj("Job", "run", "job", "troop") | {"metadata": toy(1)["metadata"] | {"name": "run"}}, 0.0)
    bodies, digests = cache.children(TROOP, "troop")
    assert [b["kind"] for b in bodies] == ["Job"]
    assert digests == {"Toy/a": {"ran": True, "suspend": False}}


def test_an_object_that_the_digest_fails_on_is_there_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(KINDS)
    broken = toy(1) | {"spec": None}
    assert cache.put(broken, 0.0) == (OWNER, TROOP)
    assert cache.children(TROOP, "troop") == ((), {"Toy/a": {}})
    assert "digest failed" in caplog.text


def test_a_change_concerns_those_who_refer_to_the_resource() -> None:
    cache = Cache(KINDS)
    guest = Key("Guest", "ns", "g")
    assert cache.references.name(guest, frozenset({OWNER})) is True
    assert cache.references.name(guest, frozenset({OWNER})) is False
    assert cache.put(toy(1, step=1), 0.0) == (OWNER, TROOP, guest)
    assert cache.put(toy(2, step=2), 0.0) == (OWNER, guest)
    assert cache.depart(toy(3), 0.0) == (OWNER, TROOP, guest)
    assert cache.references.name(guest, frozenset()) is False
    assert cache.put(toy(4), 0.0) == (OWNER, TROOP)
    assert cache.references.name(guest, frozenset({OWNER, TROOP})) is True
    cache.references.forget(guest)
    assert cache.put(toy(5, step=1), 0.0) == (OWNER,)


@pytest.mark.parametrize("reference", [Key("Toy", "other", "a"), Key("ConfigMap", "ns", "c")])
def test_no_plan_reads_other_namespaces_or_what_is_not_watched_whole(reference: Key) -> None:
    references = Cache(KINDS).references
    allowed = [Key("Toy", "ns", f"t{n}") for n in range(20)]
    with pytest.raises(ValueError, match="can't refer to"):
        references.name(Key("Guest", "ns", "g"), frozenset({reference, *allowed}))
    assert not any(references.referrers(each) for each in allowed), "nothing of it is remembered"


def test_a_listing_shows_what_a_watch_has_missed_but_nothing_newer_than_itself() -> None:
    cache = Cache(KINDS)
    cache.put(obj("Job", "there", "1", "toy", 3), 0.0)
    cache.put(obj("Job", "gone", "2", "toy", 4), 0.0)
    cache.put(obj("Job", "new", "3", "toy", 9), 0.0)
    cache.put(obj("Job", "far", "4", "toy", 4, namespace="other"), 0.0)
    assert [k.name for k in cache.missing_from("Job", {"1"}, 5, "ns")] == ["gone"]
    assert sorted(k.name for k in cache.missing_from("Job", {"1"}, 5, None)) == ["far", "gone"]


def test_the_last_state_of_a_departed_object_stays_known_as_long_as_its_controller() -> None:
    cache = fill()
    last = obj("Pod", "run-0", "pod", "job", 9) | {"status": {"phase": "Failed"}}
    cache.depart(last, 10.0)
    assert names(cache, "toy") == ["run", "storage"]
    assert [p["status"] for p in cache.departed(OWNER, "toy")] == [{"phase": "Failed"}]
    assert cache.departed(OWNER, "old-toy") == ()
    cache.remove(Key("Job", "ns", "run"))
    cache.put(obj("Job", "run", "job", "toy"), 11.0)
    assert cache.departed(OWNER, "toy") == ()


def test_departed_objects_are_forgotten_after_a_while_and_at_once_where_nobody_asks_for_them() -> None:
    cache = fill()
    cache.depart(obj("Pod", "run-0", "pod", "job"), 10.0)
    cache.depart(obj("Job", "run", "job", "toy"), 10.0)  # of a kind that is not remembered
    cache.put(obj("Job", "run", "job", "toy"), 11.0)
    cache.put(obj("Pod", "run-1", "pod-1", "job"), 11.0)
    cache.depart(obj("Pod", "run-1", "pod-1", "job"), 12.0)
    cache.depart(obj("Pod", "run-2", "pod-2", "job"), 12.0)  # never seen before
    cache.rest(before=12.0 + REMEMBERED)
    assert [p["metadata"]["name"] for p in cache.departed(OWNER, "toy")] == ["run-1"]
    cache.rest(before=12.1 + REMEMBERED)
    assert cache.departed(OWNER, "toy") == ()
