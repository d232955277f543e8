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
LARGE = [Cluster(f"c{slot}", slot, False, plan.MOST_NODES) for slot in range(plan.SLOTS)]


def test_no_two_slots_share_an_address_or_a_link() -> None:
    for one, other in itertools.combinations(ALL, 2):
        assert not ipaddress.ip_network(one.service_range).overlaps(ipaddress.ip_network(other.service_range))
        for name in ("address", "loopback", "link", "folder", "server"):
            assert getattr(one, name) != getattr(other, name)


def test_no_two_nodes_of_whatever_clusters_share_anything() -> None:
    nodes = [node for cluster in LARGE for node in cluster.nodes] + [ALL[0].nodes[0]]
    for one, other in itertools.combinations(nodes, 2):
        assert not ipaddress.ip_network(one.pod_range).overlaps(ipaddress.ip_network(other.pod_range))
        for name in ("name", "folder", "address", "loopback", "namespace", "uplink", "cgroup", "socket"):
            assert getattr(one, name) != getattr(other, name)
    clusters = {value for cluster in LARGE for value in (cluster.address, cluster.loopback)}
    assert not clusters & {value for node in nodes[:-1] for value in (node.address, node.loopback)}


def test_a_single_node_is_the_machine_itself_and_has_the_clusters_own_folder_and_addresses() -> None:
    (node,) = ALL[0].nodes
    assert node.namespace is None
    assert (node.name, node.folder, node.cgroup) == ("c0-node", ALL[0].folder, "modelyard-c0")
    assert (node.address, node.loopback) == (ALL[0].address, ALL[0].loopback)


def test_nodes_of_a_larger_cluster_have_networks_of_their_own_and_leave_the_machines_alone() -> None:
    cluster = Cluster("two", 3, False, 2)
    assert [node.name for node in cluster.nodes] == ["two-node1", "two-node2"]
    assert [node.namespace for node in cluster.nodes] == ["myard-3-1", "myard-3-2"]
    assert not cluster.shares_machine
    assert ALL[0].shares_machine
    assert Cluster("none", 1, True).nodes == ()


@pytest.mark.parametrize("cluster", ALL, ids=lambda cluster: cluster.name)
def test_fixed_service_addresses_lie_in_the_service_range(cluster: Cluster) -> None:
    services = ipaddress.ip_network(cluster.service_range)
    assert ipaddress.ip_address(cluster.api_service_address) == services[1]
    assert ipaddress.ip_address(cluster.dns_address) == services[10]


@pytest.mark.parametrize("cluster", ALL, ids=lambda cluster: cluster.name)
def test_nothing_has_a_public_address_and_links_have_names_the_kernel_takes(cluster: Cluster) -> None:
    assert ipaddress.ip_address(cluster.address).is_private
    assert ipaddress.ip_address(cluster.loopback).is_loopback
    assert cluster.loopback in cluster.etcd_url
    node = LARGE[cluster.slot].nodes[-1]
    assert max(map(len, (cluster.link, node.pod_link, node.uplink))) <= 15


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


def test_several_nodes_stand_beside_the_machines_one() -> None:
    plan.create("default", control_plane_only=False)
    created = plan.create("two", control_plane_only=False, nodes=2)
    assert len(created.nodes) == 2
    assert plan.load("two") == created == plan.create("two", control_plane_only=False)


def test_a_cluster_does_not_change_its_number_of_nodes_silently() -> None:
    plan.create("two", control_plane_only=False, nodes=2)
    with pytest.raises(ClusterError, match=r"'two' exists with 2 node"):
        plan.create("two", control_plane_only=False, nodes=1)


def test_what_is_recorded_of_a_single_node_is_what_it_always_was() -> None:
    cluster = plan.create("default", control_plane_only=False, nodes=1)
    assert (cluster.folder / "cluster.json").read_text() == '{"slot": 0, "control_plane_only": false}'


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
