"""Which server gets a request."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from modelyard_gateway.balance.servers import Fleet, Server, Target


def addresses(*ports: int) -> frozenset[tuple[str, int]]:
    return frozenset(("10.0.0.1", port) for port in ports)


def take(fleet: Fleet, now: float = 0.0) -> Server:
    server = fleet.choose(now)
    assert server is not None
    fleet.take(server)
    return server


@pytest.mark.parametrize(
    "weights", [(100,), (90, 10), (50, 50), (1, 99), (33, 33, 34), (100, 0), (5, 20, 75)]
)
def test_of_every_hundred_requests_each_revision_gets_its_percent_exactly(weights: tuple[int, ...]) -> None:
    fleet = Fleet()
    fleet.follow({f"r{n}": Target(weight, 0, addresses(n)) for n, weight in enumerate(weights)})
    for _ in range(3):
        counts = Counter(take(fleet).revision.name for _ in range(100))
        assert [counts[f"r{n}"] for n in range(len(weights))] == list(weights)


def test_a_small_share_is_spread_evenly() -> None:
    fleet = Fleet()
    fleet.follow({"a": Target(90, 0, addresses(1)), "b": Target(10, 0, addresses(2))})
    turns = [n for n in range(1000) if take(fleet).revision.name == "b"]
    assert {b - a for a, b in itertools.pairwise(turns)} == {10}


def test_the_least_busy_server_gets_the_request_and_equals_take_turns() -> None:
    fleet = Fleet()
    fleet.follow({"a": Target(100, 0, addresses(1, 2, 3))})
    servers = [take(fleet) for _ in range(6)]
    assert Counter(s.name for s in servers) == {f"10.0.0.1:{n}": 2 for n in (1, 2, 3)}
    servers[1].outstanding -= 1
    assert take(fleet) is servers[1]
    for server in servers[:3]:
        server.outstanding = 0
    # One at a time goes to all of them, not to the first again and again.
    order = []
    for _ in range(6):
        order.append(take(fleet))
        order[-1].outstanding = 0
    assert len(set(order[:3])) == 3
    assert order[:3] == order[3:]


def test_a_full_server_gets_none_and_a_limit_may_change() -> None:
    fleet = Fleet()
    fleet.follow({"a": Target(100, 2, addresses(1))})
    for _ in range(2):
        take(fleet)
    assert fleet.choose(0.0) is None
    fleet.follow({"a": Target(100, 3, addresses(1))})
    assert take(fleet).outstanding == 3
    fleet.follow({"a": Target(100, 0, addresses(1))})
    assert fleet.choose(0.0) is not None


def test_a_revision_that_can_not_take_a_request_is_passed_over() -> None:
    fleet = Fleet()
    fleet.follow(
        {"a": Target(90, 1, addresses(1)), "b": Target(10, 0, addresses(2)), "c": Target(0, 0, addresses(3))}
    )
    assert [take(fleet).revision.name for _ in range(4)] == ["a", "b", "b", "b"]
    fleet.follow({"a": Target(100, 1, frozenset()), "c": Target(0, 0, addresses(3))})
    assert fleet.choose(0.0) is None


def test_a_server_that_failed_rests_for_longer_each_time_until_it_answers() -> None:
    fleet = Fleet()
    fleet.follow({"a": Target(100, 0, addresses(1))})
    server = take(fleet)
    rests = []
    now = 100.0
    for _ in range(7):
        for _ in range(10):  # all that it had failed at once
            server.rest(now)
        rests.append(server.rests_until - now)
        now = server.rests_until
    assert rests == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert fleet.choose(now - 0.1) is None
    assert fleet.choose(now) is server
    server.answered()
    assert fleet.choose(100.0) is server
    server.rest(100.0)
    assert server.rests_until == 100.5


def test_a_server_stays_the_same_while_others_come_and_go() -> None:
    fleet = Fleet()
    fleet.follow({"a": Target(100, 0, addresses(1))})
    server = take(fleet)
    assert not fleet.follow({"a": Target(100, 0, addresses(1, 2))})
    assert take(fleet).name == "10.0.0.1:2"
    assert fleet.revisions["a"].servers["10.0.0.1", 1] is server
    assert not fleet.follow({"a": Target(100, 0, addresses(2))})
    assert (server.present, server.outstanding) == (False, 1)
    assert fleet.follow({"a": Target(0, 0, addresses(2)), "b": Target(100, 0, frozenset())})
    assert fleet.weights() == {"a": 0, "b": 100}
    assert fleet.count_servers() == 0
    assert fleet.follow({})


def test_a_server_that_comes_back_still_has_the_requests_that_it_had() -> None:
    fleet = Fleet()
    told = {"a": Target(100, 2, addresses(1))}
    fleet.follow(told)
    server = take(fleet)
    take(fleet)
    server.rest(50.0)
    for gone in ({"a": Target(100, 2, frozenset())}, {}):
        fleet.follow(gone)
        assert not server.present
        fleet.follow(told)
        assert fleet.revisions["a"].servers["10.0.0.1", 1] is server
        assert (server.present, server.revision, server.rests_until) == (True, fleet.revisions["a"], 50.5)
        assert fleet.choose(60.0) is None
    server.outstanding = 0
    fleet.follow({})
    fleet.follow(told)
    assert take(fleet) is not server


def test_tried_servers_are_left_out_and_a_wish_for_a_revision_is_met_where_it_can_be() -> None:
    fleet = Fleet()
    fleet.follow({"a": Target(50, 0, addresses(1, 2)), "b": Target(50, 0, addresses(3))})
    a, b = fleet.revisions["a"], fleet.revisions["b"]
    for _ in range(3):
        assert fleet.choose(0.0, b) is b.servers["10.0.0.1", 3]
    tried = (*a.servers.values(), b.servers["10.0.0.1", 3])
    assert fleet.choose(0.0, None, tried) is None
    assert fleet.choose(0.0, b, tried[1:]) is tried[0]
