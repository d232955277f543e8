"""From one revision to the next: step by step, and in a small world where anything may come at any time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelyard.serving.revisions.rollout import FULL, Revision, Target, find_serving, plan


def test_the_first_revision_gets_all_requests_at_once() -> None:
    assert plan("a", 2, [], []) == [Target("a", 2, FULL)]


def test_a_new_revision_is_made_as_large_as_the_load_and_gets_nothing_until_all_of_it_is_ready() -> None:
    old = Revision("a", 3, 3, FULL)
    assert plan("b", 3, [old], [{"a": FULL}]) == [Target("b", 3, 0), Target("a", 3, FULL)]
    new = Revision("b", 3, 2, 0)
    assert plan("b", 3, [old, new], [{"a": FULL, "b": 0}]) == [Target("b", 3, 0), Target("a", 3, FULL)]


def test_a_new_revision_that_has_more_ready_servers_than_the_old_one_need_not_be_whole() -> None:
    dead, new = Revision("a", 3, 0, FULL), Revision("b", 3, 1, 0)
    assert plan("b", 3, [dead, new], [{"a": FULL}])[0] == Target("b", 3, FULL)
    halved = Revision("a", 3, 2, FULL)
    assert plan("b", 3, [halved, new], [{"a": FULL}])[0] == Target("b", 3, 0)
    assert plan("b", 3, [halved, Revision("b", 3, 2, 0)], [{"a": FULL}])[0] == Target("b", 3, FULL)


def test_first_the_new_one_gains_and_once_all_gateways_have_seen_it_the_old_one_loses() -> None:
    old, new = Revision("a", 3, 3, FULL), Revision("b", 3, 3, 0)
    share = [Target("b", 3, FULL), Target("a", 3, FULL)]
    assert plan("b", 3, [old, new], [{"a": FULL}]) == share
    for named in ("b", "0"):  # whichever of both counts as the one that serves meanwhile
        new = Revision(named, 3, 3, FULL)
        share = [Target(named, 3, FULL), Target("a", 3, FULL)]
        assert plan(named, 3, [old, new], [{"a": FULL, named: FULL}, {"a": FULL, named: 0}]) == share
        # One that follows nothing sends no requests anywhere.
        all_know = [{"a": FULL, named: FULL}, {named: FULL}, {}]
        assert plan(named, 3, [old, new], all_know) == [Target(named, 3, FULL), Target("a", 3, 0)]


def test_while_two_share_a_scaler_of_others_keeps_its_number_of_the_new_one() -> None:
    old, late = Revision("b", 3, 3, FULL), [{"b": FULL}]
    for replicas in (1, 2, 5):
        new = Revision("a", replicas, replicas, FULL)
        shared = [Target("a", replicas, FULL), Target("b", 3, FULL)]
        wish = max(3, replicas)  # whichever of them counts as the one that serves
        assert plan("a", wish, [old, new], late, delegated=True) == shared
        over = plan("a", wish, [old, new], [{"a": FULL, "b": FULL}], delegated=True)
        assert over == [Target("a", replicas, FULL), Target("b", 3, 0)]
    first = plan("a", 3, [old, Revision("a", 3, 3, 0)], late, delegated=True)
    assert first == [Target("a", 3, FULL), Target("b", 3, FULL)]


def test_the_old_one_stays_until_no_gateway_sends_it_any_request() -> None:
    old, new = Revision("a", 3, 3, 0), Revision("b", 3, 3, FULL)
    late = [{"a": 0, "b": FULL}, {"a": FULL, "b": FULL}]
    assert plan("b", 3, [old, new], late) == [Target("b", 3, FULL), Target("a", 3, 0)]
    assert plan("b", 3, [old, new], [{"a": 0, "b": FULL}] * 2) == [Target("b", 3, FULL)]


def test_where_no_weight_is_left_the_one_with_ready_servers_has_it_again() -> None:
    lost = Revision("a", 2, 2, 0)
    assert plan("b", 2, [lost], [{}]) == [Target("b", 2, 0), Target("a", 2, FULL)]
    for ready in (1, 2):  # and if the other's weight can't be written either, none of them goes
        new = Revision("b", 2, ready, 0)
        assert {target.id for target in plan("b", 2, [lost, new], [{}])} == {"a", "b"}
    assert plan("a", 2, [Revision("a", 2, 3, 0), Revision("c", 2, 1, 0)], []) == [
        Target("a", 2, FULL), Target("c", 2, 0)
    ]  # fmt: skip


def test_back_to_the_one_that_serves_takes_the_new_one_away() -> None:
    assert plan("a", 2, [Revision("a", 2, 2, FULL), Revision("b", 2, 0, 0)], [{"a": FULL}]) == [
        Target("a", 2, FULL)
    ]


def test_a_revision_is_proved_by_one_server_while_nobody_asks() -> None:
    old = Revision("a", 0, 0, FULL)
    assert plan("b", 0, [old], []) == [Target("b", 1, 0), Target("a", 0, FULL)]
    assert plan("b", 0, [old, Revision("b", 1, 1, 0)], [])[0] == Target("b", 1, FULL)
    assert plan("b", 0, [Revision("b", 1, 1, FULL)], []) == [Target("b", 0, FULL)]


def test_a_change_of_mind_in_the_middle_of_a_change_leaves_no_gateway_without_servers() -> None:
    both = [Revision("a", 2, 2, FULL), Revision("c", 2, 2, FULL)]
    for known, left in (({"a": FULL}, FULL), ({"a": FULL, "c": FULL}, 0)):
        assert plan("b", 2, both, [known]) == [
            Target("b", 2, 0), Target("c", 2, FULL), Target("a", 2, left)
        ]  # fmt: skip


@pytest.mark.parametrize("ready", [(2, 1), (1, 2)])
def test_in_the_middle_of_a_change_the_one_with_more_ready_servers_counts(ready: tuple[int, int]) -> None:
    serving = find_serving([Revision("a", 2, ready[0], FULL), Revision("b", 2, ready[1], FULL)])
    assert serving is not None and serving.ready == 2


class World:
    """A cluster that carries out any part of what is planned: the rest is refused, or the operator dies before it.

    Gateways hear of each revision by itself.
    """

    def __init__(self, replicas: int) -> None:
        self.wanted, self.replicas = "a", replicas
        self.revisions: dict[str, Revision] = {}
        self.gateways: list[dict[str, int]] = [{}, {}]
        self.carry_out()
        self.make_ready("a", replicas)
        self.follow()

    def carry_out(self, pieces: int = -1) -> None:
        """Those of the writes of one plan that `pieces` has a bit for."""
        targets = plan(self.wanted, self.replicas, list(self.revisions.values()), self.gateways)
        writes = [("put", target) for target in targets]
        gone = [("drop", Target(i, 0, 0)) for i in self.revisions if i not in {t.id for t in targets}]
        for number, (what, target) in enumerate([*writes, *gone]):
            if not pieces >> number & 1:
                continue
            if what == "drop":
                assert not any(weights.get(target.id) for weights in self.gateways), "requests are still sent"
                del self.revisions[target.id]
                continue
            old = self.revisions.get(target.id)
            ready = min(old.ready, target.replicas) if old else 0
            self.revisions[target.id] = Revision(target.id, target.replicas, ready, target.weight)

    def make_ready(self, revision: str, ready: int) -> None:
        if old := self.revisions.get(revision):
            self.revisions[revision] = Revision(old.id, old.replicas, min(ready, old.replicas), old.weight)

    def follow(self, gateways: Sequence[int] = (0, 1), revisions: str = "abc") -> None:
        for gateway in gateways:
            for name in revisions:
                self.gateways[gateway].pop(name, None)
                if name in self.revisions:
                    self.gateways[gateway][name] = self.revisions[name].weight

    def asks(self, revision: str) -> bool:
        """Whether any gateway sends it requests, or soon will."""
        seen = self.revisions.get(revision)
        return bool(seen and seen.weight) or any(weights.get(revision) for weights in self.gateways)

    def check(self) -> None:
        """Wherever a gateway sends requests, there are servers."""
        for weights in self.gateways:
            served = [self.revisions[i] for i, weight in weights.items() if weight]
            assert any(r.ready == self.replicas for r in served), (weights, self.revisions)


STEPS = st.one_of(
    st.tuples(st.just("want"), st.sampled_from("abc")),
    st.tuples(st.just("write"), st.integers(0, 31)),
    st.tuples(st.just("ready"), st.sampled_from("abc"), st.integers(0, 3)),
    st.tuples(st.just("follow"), st.integers(0, 1), st.sampled_from("abc")),
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_whatever_comes_when_every_gateway_has_ready_servers_behind_it(steps: list[tuple[str, ...]]) -> None:
    world = World(replicas=2)
    for what, *args in steps:
        if what == "want":
            world.wanted = str(args[0])
        elif what == "write":
            world.carry_out(int(args[0]))
        elif what == "follow":
            world.follow([int(args[0])], str(args[1]))
        elif not world.asks(str(args[0])):
            world.make_ready(str(args[0]), int(args[1]))  # servers that get requests don't fail here
        world.check()
    for _ in range(6):  # and in the end there is the one that was asked for
        world.carry_out()
        world.make_ready(world.wanted, 9)
        world.follow()
    world.carry_out()
    assert list(world.revisions.values()) == [Revision(world.wanted, 2, 2, FULL)]
