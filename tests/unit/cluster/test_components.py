"""Command lines and configuration files of the components."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import components
from tests.cluster.plan import Cluster
from tests.cluster.supervisor import Component

ONE, TWO = Cluster("default", 0, False), Cluster("apitest", 1, True)
LARGE = Cluster("two", 2, False, 2)
(NODE,) = ONE.nodes


def flags(component: Component) -> dict[str, str]:
    return dict(word[2:].split("=", 1) for word in component.command[2:])


def rendered(name: str, cluster: Cluster = ONE) -> str:
    of_node = name in components.NODE_CONFIGURATIONS
    values = components.node_values(cluster.nodes[0]) if of_node else components.service_values(cluster)
    return components.render((components.TEMPLATES / name).read_text(), values)


def document(name: str) -> Any:
    return yaml.safe_load(rendered(name))


def test_the_control_plane_is_complete_and_starts_the_component_it_names() -> None:
    parts = components.control_plane(ONE)
    assert tuple(parts) == components.CONTROL_PLANE
    assert [part.command[1] for part in parts.values()] == list(components.CONTROL_PLANE)


def test_the_node_is_complete() -> None:
    parts = components.node(NODE)
    assert tuple(parts) == components.NODE
    assert [parts[name].command[1] for name in components.NODE[1:]] == list(components.NODE[1:])
    assert [list(part.enter) for part in parts.values()] == [[], [], []]


def test_the_services_are_complete() -> None:
    parts = components.services(ONE)
    assert tuple(parts) == components.SERVICES
    assert [part.command[1] for part in parts.values()] == list(components.SERVICES)


def test_a_numbered_node_runs_in_its_network_and_shares_no_file_with_another() -> None:
    one, other = (components.node(node) for node in LARGE.nodes)
    for name in components.NODE:
        assert one[name].enter == ["nsenter", "--net=/run/netns/myard-2-1", "--"]
        assert not set(one[name].files) & set(other[name].files)
    same = set(one["kubelet"].command) & set(other["kubelet"].command)
    assert {word for word in same if word.startswith("--")} == set()


def test_with_several_nodes_a_volume_waits_for_the_node_of_its_first_pod() -> None:
    assert "volumeBindingMode: Immediate" in rendered("objects.yaml")
    assert "volumeBindingMode: WaitForFirstConsumer" in rendered("objects.yaml", LARGE)


def test_with_several_nodes_a_lost_one_is_noticed_sooner() -> None:
    flag = "node-monitor-grace-period"
    assert flag not in flags(components.control_plane(ONE)["kube-controller-manager"])
    assert flags(components.control_plane(LARGE)["kube-controller-manager"])[flag] == "30s"


def test_two_control_planes_share_no_address_and_no_folder() -> None:
    one, two = (
        {value for part in components.control_plane(cluster).values() for value in flags(part).values()}
        for cluster in (ONE, TWO)
    )
    shared = {value for value in one & two if "/" in value or re.match(r"[\d.]+\.[\d.]+", value)}
    assert shared == {"https://kubernetes.default.svc.cluster.local"}


def test_etcd_which_has_no_encryption_listens_on_loopback_only() -> None:
    etcd = flags(components.control_plane(ONE)["etcd"])
    for name in ("listen-client-urls", "listen-peer-urls"):
        assert etcd[name].startswith("http://127.")


def test_the_api_server_authorizes_nodes_by_node_and_all_others_by_role() -> None:
    apiserver = flags(components.control_plane(ONE)["kube-apiserver"])
    assert apiserver["authorization-mode"] == "Node,RBAC"
    assert apiserver["bind-address"] == apiserver["advertise-address"] == ONE.address


def test_the_controllers_are_not_slowed_down_at_the_start() -> None:
    controllers = flags(components.control_plane(ONE)["kube-controller-manager"])
    assert int(controllers["kube-api-qps"]) >= 500


@pytest.mark.parametrize(
    "name", sorted([*components.NODE_CONFIGURATIONS, *components.SERVICE_CONFIGURATIONS])
)
def test_every_configuration_renders_without_leftover_names(name: str) -> None:
    assert "$" not in rendered(name)


def test_every_template_is_rendered() -> None:
    known = {*components.NODE_CONFIGURATIONS, *components.SERVICE_CONFIGURATIONS}
    assert {path.name for path in components.TEMPLATES.iterdir()} == known


def test_an_unknown_name_in_a_template_is_an_error() -> None:
    with pytest.raises(KeyError):
        components.render("$nonsense", components.node_values(NODE))


def test_kubelet_never_collects_images_that_can_not_be_pulled_again() -> None:
    assert document("kubelet.yaml")["imageGCHighThresholdPercent"] == 100


def test_kubelet_keeps_pods_below_the_clusters_own_control_group() -> None:
    assert document("kubelet.yaml")["cgroupRoot"] == f"/{NODE.cgroup}"


def test_containerd_does_not_lower_oom_scores_and_finds_the_pause_image() -> None:
    plugins = tomllib.loads(rendered("containerd.toml"))["plugins"]
    assert plugins["io.containerd.cri.v1.runtime"]["restrict_oom_score_adj"] is True
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": "localhost/pause:1"}


def test_containerd_writes_below_the_clusters_folder_only() -> None:
    content = tomllib.loads(rendered("containerd.toml"))
    for path in (content["root"], content["state"], content["grpc"]["address"]):
        assert path.startswith(f"{ONE.folder}/")


def test_pods_get_addresses_of_the_clusters_range_from_its_own_list() -> None:
    (bridge,) = json.loads(rendered("cni.conflist"))["plugins"]
    assert bridge["bridge"] == NODE.pod_link
    assert bridge["ipam"]["ranges"] == [[{"subnet": NODE.pod_range}]]
    assert bridge["ipam"]["dataDir"].startswith(f"{ONE.folder}/")


def test_the_default_storage_class_is_the_one_of_our_provisioner() -> None:
    objects = list(yaml.safe_load_all(rendered("objects.yaml")))
    (storage,) = [item for item in objects if item["kind"] == "StorageClass"]
    source = (components.TEMPLATES.parent / "go" / "provisioner" / "provisioner.go").read_text()
    assert f'const Name = "{storage["provisioner"]}"' in source
    assert storage["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert storage["reclaimPolicy"] == "Delete"


def test_a_changed_configuration_changes_the_components_fingerprint(cache_root: Path, tmp_path: Path) -> None:
    program, configuration = tmp_path / "program", tmp_path / "configuration"
    program.write_text("x")
    configuration.write_text("one")
    component = Component("part", [str(program)], [configuration])
    before = component.fingerprint()
    configuration.write_text("three")
    assert component.fingerprint() != before
