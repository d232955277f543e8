"""What is changed on the machine, and that it can be put back: settings, mounts, control groups, packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster import network, node, prerequisites, versions
from tests.cluster.base_image import mirror_in
from tests.cluster.plan import Cluster
from tests.cluster.shell import ClusterError

(NODE,) = Cluster("default", 0, False).nodes


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for number, name in enumerate(network.SETTINGS):
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(f"{number}\n")
    return tmp_path / "sys"


def values(proc: Path) -> list[str]:
    return [(proc / name).read_text().strip() for name in network.SETTINGS]


def test_settings_come_back_after_an_interrupted_and_repeated_start(proc: Path, tmp_path: Path) -> None:
    before, saved = values(proc), tmp_path / "saved"
    for _ in range(2):
        network.save_settings(saved, proc)
        network.enable_forwarding(proc)
        (proc / "vm/overcommit_memory").write_text("7")
    assert values(proc) != before
    network.release_settings(saved, [], proc)
    assert values(proc) == before
    assert not saved.exists()


def test_restoring_without_a_start_changes_nothing(proc: Path, tmp_path: Path) -> None:
    before = values(proc)
    network.release_settings(tmp_path / "absent", [], proc)
    assert values(proc) == before


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_of_two_clusters_the_last_one_restores_what_the_first_one_found(
    proc: Path, tmp_path: Path, first_leaves_first: bool
) -> None:
    before = values(proc)
    first, second = tmp_path / "first", tmp_path / "second"
    for number, saved in enumerate((first, second)):
        network.save_settings(saved, proc)
        os.utime(saved, (number, number))
        network.enable_forwarding(proc)
        (proc / "vm/overcommit_memory").write_text("7")
    during = values(proc)
    leaving = [first, second] if first_leaves_first else [second, first]
    network.release_settings(leaving[0], [leaving[1]], proc)
    assert values(proc) == during, "the other one still needs them"
    network.release_settings(leaving[1], [leaving[0]], proc)
    assert values(proc) == before
    assert not first.exists()
    assert not second.exists()


def test_mounts_are_found_below_the_folder_only_and_the_innermost_first() -> None:
    table = "\n".join(
        [
            "overlay /c/default/run/rootfs overlay rw 0 0",
            "tmpfs /c/default/run/rootfs/with\\040space tmpfs rw 0 0",
            "tmpfs /c/default-2/run tmpfs rw 0 0",
            "proc /proc proc rw 0 0",
        ]
    )
    assert node.mounts_below(Path("/c/default"), table) == [
        "/c/default/run/rootfs/with space",
        "/c/default/run/rootfs",
    ]


def version_one(root: Path) -> Path:
    for name in ("cpuset", "memory"):
        (root / name).mkdir(parents=True)
        (root / name / "cgroup.procs").write_text("")
    (root / "no-controller").mkdir()
    for name in node.CPUSET_FILES:
        (root / "cpuset" / name).write_text("0-1\n")
        group = root / "cpuset" / NODE.cgroup
        group.mkdir(exist_ok=True)
        (group / name).write_text("\n")  # as the kernel makes them
    return root


def test_with_version_one_every_controllers_tree_gets_the_group_and_it_gets_processors(
    tmp_path: Path,
) -> None:
    root = version_one(tmp_path)
    node.ensure_cgroup(NODE, root)
    assert (root / "memory" / NODE.cgroup).is_dir()
    assert (root / "cpuset" / NODE.cgroup / "cpuset.cpus").read_text() == "0-1\n"
    assert not (root / "no-controller" / NODE.cgroup).exists()


def test_processors_that_were_chosen_by_hand_stay(tmp_path: Path) -> None:
    root = version_one(tmp_path)
    (root / "cpuset" / NODE.cgroup / "cpuset.cpus").write_text("1\n")
    node.ensure_cgroup(NODE, root)
    assert (root / "cpuset" / NODE.cgroup / "cpuset.cpus").read_text() == "1\n"


def test_with_version_two_there_is_one_tree(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    node.ensure_cgroup(NODE, tmp_path)
    assert node.hierarchies(tmp_path) == [tmp_path]
    assert (tmp_path / NODE.cgroup).is_dir()


def test_missing_programs_are_named_by_their_packages_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "find", lambda name: None if name in ("runc", "ip") else name)
    assert prerequisites.missing_packages(["runc", "ip", "tar", "ip"]) == ["iproute2", "runc"]


def test_a_missing_file_counts_as_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(versions.PACKAGES, str(tmp_path / "bridge"), "plugins")
    assert prerequisites.missing_packages([str(tmp_path / "bridge")]) == ["plugins"]
    (tmp_path / "bridge").touch()
    assert prerequisites.missing_packages([str(tmp_path / "bridge")]) == []


def test_without_apt_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(prerequisites, "find", lambda name: None)
    with pytest.raises(ClusterError, match=r"install these first .*: iproute2 openssl"):
        prerequisites.ensure_system(control_plane_only=True)


def test_without_root_the_user_is_told_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match=r"sudo.*Docker and kind"):
        prerequisites.ensure_system(control_plane_only=False)


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        (
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n",
            "http://mirror.example/debian",
        ),
        ("deb http://mirror.example/debian bookworm main", "http://mirror.example/debian"),
        ("deb [signed-by=/k.gpg] http://m.example/debian/ bookworm main", "http://m.example/debian"),
        ("deb http://mirror.example/debian-security bookworm-security main", ""),
        ("# deb http://mirror.example/debian bookworm main", ""),
        ("", ""),
    ],
)
def test_the_mirror_of_this_machine_is_found(text: str, mirror: str) -> None:
    assert mirror_in(text) == mirror
