"""The kind backend: which commands it gives, with docker and kind replaced by a record."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.cluster import kind, oci
from tests.cluster.shell import ClusterError


class Record:
    def __init__(self, *clusters: str) -> None:
        self.clusters = set(clusters)
        self.commands: list[list[str]] = []
        self.loaded: list[str] = []
        self.fail_on: str | None = None

    def __call__(self, command: list[str], seconds: float = 0) -> str:
        self.commands.append(command)
        if self.fail_on and self.fail_on in command:
            raise ClusterError("interrupted")
        if command[:3] == ["kind", "get", "clusters"]:
            return "\n".join(self.clusters)
        if command[:3] == ["kind", "get", "nodes"]:
            return "modelyard-default-control-plane\n"
        if command[:3] == ["kind", "create", "cluster"]:
            self.clusters.add(command[4])
        if command[:3] == ["kind", "delete", "cluster"]:
            self.clusters.discard(command[4])
        if command[:3] == ["kind", "load", "image-archive"]:
            with tarfile.open(command[3]) as packed:
                self.loaded += packed.getnames()
        return ""

    def verbs(self) -> list[str]:
        return [" ".join(command[:2]) for command in self.commands if command[1] != "get"]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Record]:
    def install(*clusters: str) -> Record:
        made = Record(*clusters)
        monkeypatch.setattr(kind, "run", made)
        monkeypatch.setattr(
            "tests.cluster.binaries.ensure_tools", lambda: made.commands.append(["fetch", "tools"])
        )
        return made

    return install


def test_the_configuration_has_one_node_and_never_collects_images() -> None:
    content = yaml.safe_load(kind.CONFIG.read_text())
    (node,) = content["nodes"]
    assert content["kind"] == "Cluster"
    (patch,) = map(yaml.safe_load, node["kubeadmConfigPatches"])
    assert (patch["kind"], patch["imageGCHighThresholdPercent"]) == ("KubeletConfiguration", 100)


def test_create_uses_the_projects_configuration_and_not_the_users_kubeconfig(cache_root: Path) -> None:
    command = kind.create_command("default")
    assert command[command.index("--config") + 1] == str(kind.CONFIG)
    assert command[command.index("--kubeconfig") + 1].startswith(str(cache_root))
    assert command[command.index("--name") + 1] == "modelyard-default"


def test_up_makes_the_cluster_and_lets_volumes_be_shared(record: Callable[..., Record]) -> None:
    made = record()
    kind.up("default")
    assert made.verbs() == ["fetch tools", "kind create", "docker exec"]
    assert "sharedFileSystemPath" in made.commands[-1][-1]
    assert made.commands[-1][2] == "modelyard-default-control-plane"


def test_up_again_only_starts_a_stopped_node(record: Callable[..., Record]) -> None:
    record()
    kind.up("default")
    made = record("modelyard-default")
    kind.up("default")
    assert made.verbs() == ["fetch tools", "docker start"]


def test_a_creation_that_was_cut_short_is_started_over(record: Callable[..., Record]) -> None:
    made = record()
    made.fail_on = "exec"
    with pytest.raises(ClusterError):
        kind.up("default")
    made = record("modelyard-default")
    kind.up("default")
    assert made.verbs() == ["fetch tools", "kind delete", "kind create", "docker exec"]


def test_down_stops_and_wipe_removes(record: Callable[..., Record]) -> None:
    made = record("modelyard-default")
    kind.down("default", wipe=False)
    kind.down("default", wipe=True)
    assert made.verbs() == ["docker stop", "kind delete"]


def test_a_cluster_is_known_by_its_whole_name(record: Callable[..., Record]) -> None:
    record("modelyard-default-2", "default")
    assert not kind.exists("default")
    assert kind.exists("default-2")


def test_an_archive_is_loaded_as_it_is(record: Callable[..., Record], tmp_path: Path) -> None:
    path = tmp_path / "app.tar"
    with tarfile.open(path, "w"):
        pass
    made = record("modelyard-default")
    kind.load("default", path, None)
    assert made.commands == [["kind", "load", "image-archive", str(path), "--name", "modelyard-default"]]


def test_a_layout_is_packed_whole_before_it_is_loaded(record: Callable[..., Record], tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    layout = tmp_path / "app.oci"
    oci.write_layout(layout, oci.Recipe("localhost/app:1", tmp_path / "root", {}), "amd64")
    made = record("modelyard-default")
    kind.load("default", layout, None)
    assert len([name for name in made.loaded if name.startswith("blobs/sha256/")]) == 3


@pytest.mark.parametrize(
    ("programs", "engine", "available"),
    [
        ({"kind", "docker"}, "answers", True),
        ({"kind", "docker"}, None, False),
        ({"docker"}, "answers", False),
        ({"kind"}, "answers", False),
    ],
)
def test_kind_is_used_only_with_both_programs_and_an_engine_that_answers(
    monkeypatch: pytest.MonkeyPatch, programs: set[str], engine: str | None, available: bool
) -> None:
    monkeypatch.setattr(kind, "find", lambda name: name if name in programs else None)
    monkeypatch.setattr(kind, "attempt", lambda command, seconds: engine)
    assert kind.is_available() is available
