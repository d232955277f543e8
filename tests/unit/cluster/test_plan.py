"""Addresses and names of clusters side by side."""

from __future__ import annotations

import ipaddress
import itertools
from pathlib import Path

import pytest

from tests.cluster import plan
from tests.cluster.plan import Cluster
from tests.cluster.shell import ClusterError

ALL = [Cluster(f"c{slot}", slot, False) for slot in range(plan.SLOTS)]


def test_no_two_slots_share_an_address_or_a_link() -> None:
    for one, other in itertools.combinations(ALL, 2):
        for name in ("pod_range", "service_range"):
            assert not ipaddress.ip_network(getattr(one, name)).overlaps(
                ipaddress.ip_network(getattr(other, name))
            )
        for name in ("node_address", "loopback", "node_link", "pod_link", "folder", "cgroup", "server"):
            assert getattr(one, name) != getattr(other, name)


@pytest.mark.parametrize("cluster", ALL, ids=lambda cluster: cluster.name)
def test_fixed_service_addresses_lie_in_the_service_range(cluster: Cluster) -> None:
    services = ipaddress.ip_network(cluster.service_range)
    assert ipaddress.ip_address(cluster.api_service_address) == services[1]
    assert ipaddress.ip_address(cluster.dns_address) == services[10]


@pytest.mark.parametrize("cluster", ALL, ids=lambda cluster: cluster.name)
def test_nothing_has_a_public_address_and_links_have_names_the_kernel_takes(cluster: Cluster) -> None:
    assert ipaddress.ip_address(cluster.node_address).is_private
    assert ipaddress.ip_address(cluster.loopback).is_loopback
    assert cluster.loopback in cluster.etcd_url
    assert max(len(cluster.node_link), len(cluster.pod_link)) <= 15


def test_the_default_cluster_always_has_the_first_slot() -> None:
    assert plan.choose_slot("default", {"a": 1}) == 0


def test_other_clusters_take_the_lowest_free_slot_and_leave_the_first() -> None:
    assert plan.choose_slot("b", {}) == 1
    assert plan.choose_slot("b", {"a": 1, "c": 3}) == 2


def test_a_cluster_keeps_its_slot() -> None:
    assert plan.choose_slot("b", {"a": 1, "b": 7}) == 7


def test_when_all_slots_are_taken_the_error_names_who_has_them() -> None:
    taken = {f"c{slot}": slot for slot in range(plan.SLOTS)}
    with pytest.raises(ClusterError, match="c15"):
        plan.choose_slot("one-more", taken)


def test_a_created_cluster_is_found_again() -> None:
    created = plan.create("apitest", control_plane_only=True)
    assert plan.load("apitest") == created == plan.create("apitest", control_plane_only=True)
    assert plan.known() == [created]


def test_a_second_node_on_the_machine_is_refused_and_the_first_is_named() -> None:
    plan.create("default", control_plane_only=False)
    with pytest.raises(ClusterError, match="'default' has this machine's one node"):
        plan.create("other", control_plane_only=False)
    assert plan.create("other", control_plane_only=True).slot == 1


def test_a_cluster_does_not_change_its_mode_silently() -> None:
    plan.create("apitest", control_plane_only=True)
    with pytest.raises(ClusterError, match="exists without a node"):
        plan.create("apitest", control_plane_only=False)


def test_a_damaged_record_is_named(cache_root: Path) -> None:
    cluster = plan.create("apitest", control_plane_only=True)
    (cluster.folder / "cluster.json").write_text("{")
    with pytest.raises(ClusterError, match=r"cluster\.json is damaged"):
        plan.load("apitest")


@pytest.mark.parametrize("name", ["", "A", "1a", "a/b", "..", "a" * 31, "a_b", "a\n"])
def test_a_name_that_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(ClusterError):
        plan.check_name(name)


def test_an_ordinary_name_is_accepted() -> None:
    assert plan.check_name("apitest-2") == "apitest-2"
