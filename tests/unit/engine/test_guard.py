"""Read your writes: late, early and missing echoes."""

from __future__ import annotations

from typing import Any

from modelyard.engine.cache import Cache
from modelyard.engine.guard import Guard
from modelyard.engine.plan import Key, Manifest

from tests.fakes.clock import FakeClock
from tests.fakes.harness import KINDS

KEY = Key("ConfigMap", "ns", "c")
OWNER = Key("Toy", "ns", "a")


def obj(version: int, uid: str = "u", **data: str) -> Manifest:
    labels = {"modelyard.dev/toy": "a"}
    metadata: dict[str, Any] = {"name": "c", "namespace": "ns", "uid": uid, "resourceVersion": str(version)}
    return {"kind": "ConfigMap", "metadata": metadata | {"labels": labels}, "data": data}


class Case:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cache = Cache(KINDS)
        self.doubtful: list[str] = []
        self.guard = Guard(self.cache, self.clock, self.doubtful.append)

    @property
    def data(self) -> Any:
        found = self.cache.get(KEY)
        return found["data"] if found else None


def test_a_write_is_seen_at_once_and_its_echo_is_no_news() -> None:
    case = Case()
    assert case.guard.wrote(obj(5, v="new")) == (OWNER,)
    assert case.data == {"v": "new"}
    assert case.guard.observe("ADDED", obj(5, v="new")) == ()


def test_what_the_watch_still_says_of_before_the_write_is_ignored() -> None:
    case = Case()
    case.guard.observe("ADDED", obj(3, v="old"))
    case.guard.wrote(obj(5, v="new"))
    assert case.guard.observe("MODIFIED", obj(4, v="between")) == ()
    assert case.data == {"v": "new"}
    assert case.guard.observe("MODIFIED", obj(6, v="later")) == (OWNER,)
    assert case.data == {"v": "later"}


def test_a_delete_is_seen_at_once_and_late_events_bring_nothing_back() -> None:
    case = Case()
    case.guard.observe("ADDED", obj(3))
    case.guard.deleted(KEY, "u")
    assert case.guard.observe("MODIFIED", obj(4)) == ()
    assert case.data is None
    case.guard.observe("DELETED", obj(5))
    assert case.data is None
    assert case.guard.observe("ADDED", obj(6, uid="next", v="next")) == (OWNER,)
    assert case.data == {"v": "next"}


def test_an_earlier_objects_end_does_not_end_its_successor() -> None:
    case = Case()
    case.guard.observe("ADDED", obj(3))
    case.guard.wrote(obj(9, uid="next", v="next"))
    case.guard.observe("DELETED", obj(8, uid="u"))
    assert case.data == {"v": "next"}
    case.guard.observe("ADDED", obj(9, uid="next", v="next"))
    case.clock.advance(60)
    assert case.data == {"v": "next"}


def test_a_write_whose_echo_stays_away_for_five_seconds_has_its_kind_listed() -> None:
    case = Case()
    case.guard.observe("ADDED", obj(3, v="old"))
    case.guard.wrote(obj(5, v="new"))
    case.clock.advance(4.9)
    assert case.doubtful == []
    case.clock.advance(0.2)
    assert case.doubtful == ["ConfigMap"]
    assert case.data == {"v": "new"}  # a slow watch is no reason to take it for gone
    case.guard.observe("MODIFIED", obj(4, v="between"))
    assert case.data == {"v": "new"}


def test_a_delete_whose_echo_stays_away_has_its_kind_listed() -> None:
    case = Case()
    case.guard.observe("ADDED", obj(3))
    case.guard.deleted(KEY, "u")
    case.clock.advance(5.1)
    assert case.doubtful == ["ConfigMap"]
    assert case.data is None


def test_each_of_several_writes_has_five_seconds_of_its_own() -> None:
    case = Case()
    case.guard.wrote(obj(5, v="1"))
    case.clock.advance(3)
    case.guard.wrote(obj(6, v="2"))
    case.clock.advance(3)
    assert case.doubtful == []
    case.clock.advance(3)
    assert case.doubtful == ["ConfigMap"]


def test_an_echo_of_the_end_ends_the_waiting() -> None:
    case = Case()
    case.guard.observe("ADDED", obj(3))
    case.guard.deleted(KEY, "u")
    case.guard.observe("DELETED", obj(4))
    case.clock.advance(10)
    assert case.data is None
    assert case.doubtful == []


def test_a_deleted_objects_last_state_is_the_one_that_the_watch_told() -> None:
    case = Case()
    labels = {"modelyard.dev/toy": "a"}
    owner = [{"uid": "toy", "controller": True}]
    pod = {"name": "p", "namespace": "ns", "uid": "p", "labels": labels, "ownerReferences": owner}
    case.guard.observe("ADDED", {"kind": "Pod", "metadata": pod | {"resourceVersion": "1"}, "status": {}})
    ended = {"kind": "Pod", "metadata": pod | {"resourceVersion": "2"}, "status": {"phase": "Failed"}}
    assert case.guard.observe("DELETED", ended) == (OWNER,)
    assert [o["status"] for o in case.cache.departed(OWNER, "toy")] == [{"phase": "Failed"}]


def test_an_end_that_the_watch_told_of_before_the_answer_came_is_not_awaited() -> None:
    case = Case()
    case.guard.observe("ADDED", obj(1))
    case.guard.observe("DELETED", obj(2))
    case.guard.deleted(KEY, "u")
    case.guard.observe("ADDED", obj(3, uid="v", v="another"))
    case.guard.deleted(KEY, "u")
    case.clock.advance(6)
    assert case.doubtful == []
    assert case.data == {"v": "another"}
