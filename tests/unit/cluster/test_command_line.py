"""The command line: what other programs read from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import plan
from tests.cluster.__main__ import main


@pytest.fixture(autouse=True)
def no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.cluster.kind.is_available", lambda: False)


def test_env_prints_exports_for_a_shell(cache_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = plan.create("apitest", control_plane_only=True)
    assert main(["env", "--name", "apitest"]) == 0
    assert capsys.readouterr().out == (
        f"export KUBECONFIG={cluster.kubeconfig}\nexport PATH={cache_root / 'bin'}:$PATH\n"
    )


def test_kubeconfig_prints_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = plan.create("apitest", control_plane_only=True)
    assert main(["kubeconfig", "--name", "apitest"]) == 0
    assert capsys.readouterr().out == f"{cluster.kubeconfig}\n"


@pytest.mark.parametrize("command", ["env", "kubeconfig"])
def test_a_missing_cluster_is_an_error_that_says_how_to_make_it(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--name", "apitest"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "up --name apitest" in captured.err


def test_status_of_a_stopped_cluster_lists_its_components_and_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan.create("apitest", control_plane_only=True)
    assert main(["status", "--name", "apitest"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "not up (control plane only" in lines[0]
    assert [line.split() for line in lines[1:5]] == [
        [name, "stopped"] for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]


def test_status_shows_every_component_of_every_node(capsys: pytest.CaptureFixture[str]) -> None:
    plan.create("two", control_plane_only=False, nodes=2)
    assert main(["status", "--name", "two"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "not up (control plane and 2 nodes" in lines[0]
    for node in ("two-node1", "two-node2"):
        for name in ("containerd", "kubelet", "kube-proxy"):
            assert [node, name, "stopped"] in [line.split() for line in lines]
    assert ["coredns", "stopped"] in [line.split() for line in lines]


@pytest.mark.parametrize("count", ["0", "-1", "10", "two"])
def test_a_number_of_nodes_that_can_not_be_is_refused(
    cache_root: Path, capsys: pytest.CaptureFixture[str], count: str
) -> None:
    with pytest.raises(SystemExit):
        main(["up", f"--nodes={count}"])
    assert "is not a number from 1 to 9" in capsys.readouterr().err
    assert not cache_root.exists()


@pytest.mark.parametrize(
    ("nodes", "name", "words"),
    [
        (1, "default-node", "is this machine itself"),
        (2, "default-node7", "it has default-node1, default-node2"),
    ],
)
def test_a_node_that_can_not_be_lost_is_refused(
    capsys: pytest.CaptureFixture[str], nodes: int, name: str, words: str
) -> None:
    plan.create("default", control_plane_only=False, nodes=nodes)
    assert main(["lose", name]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "recorded", "chosen"),
    [([], None, "kind"), (["--nodes=2"], None, "native"), ([], 2, "native"), (["--nodes=1"], None, "kind")],
)
def test_several_nodes_never_come_from_kind(
    monkeypatch: pytest.MonkeyPatch, words: list[str], recorded: int | None, chosen: str
) -> None:
    made: list[str] = []
    monkeypatch.setattr("tests.cluster.kind.is_available", lambda: True)
    monkeypatch.setattr("tests.cluster.kind.up", lambda name: made.append("kind"))
    monkeypatch.setattr("tests.cluster.native.up", lambda name, alone, nodes: made.append("native"))
    if recorded:
        plan.create("two", control_plane_only=False, nodes=recorded)
    assert main(["up", "--name", "two", *words]) == 0
    assert made == [chosen]


def test_images_can_not_be_put_where_there_is_no_node(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan.create("apitest", control_plane_only=True)
    assert main(["load", str(tmp_path), "--name", "apitest"]) == 1
    assert "has no node" in capsys.readouterr().err


def test_taking_down_what_is_not_there_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--wipe", "--name", "apitest"]) == 0
    assert "there is no cluster 'apitest'" in capsys.readouterr().err


def test_a_bad_name_is_refused_before_anything_is_touched(
    cache_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--name", "../x"]) == 1
    assert "can not be a cluster's name" in capsys.readouterr().err
    assert not cache_root.exists()
