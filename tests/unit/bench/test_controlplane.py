"""A section's control plane is new, the section's alone, and gone afterwards, whatever happens."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from tests.bench import controlplane
from tests.bench.controlplane import control_plane
from tests.cluster import plan
from tests.cluster.shell import ClusterError


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What tests.cluster was told; `up` records a cluster with a log, `down` forgets it."""
    monkeypatch.setenv("MODELYARD_CACHE", str(tmp_path / "cache"))
    told: list[str] = []

    def command(seconds: float, verb: str, *arguments: str) -> None:
        told.append(verb)
        folder = plan.clusters_folder() / "bench"
        if verb == "up":
            made = plan.create("bench", control_plane_only=True)
            made.logs.mkdir()
            (made.logs / "kube-apiserver.log").write_text("last words")
        elif folder.exists():
            (folder / "cluster.json").unlink()

    monkeypatch.setattr(controlplane, "_command", command)
    monkeypatch.setattr("tests.cluster.native.halt", lambda cluster, names: told.append(f"halt {names[0]}"))
    return told


def test_it_is_wiped_before_and_after(commands: list[str], tmp_path: Path) -> None:
    with control_plane(tmp_path / "logs") as kubeconfig:
        assert kubeconfig.endswith("/bench/kubeconfig")
        assert commands == ["down", "up", "halt kube-scheduler"]
    assert commands[3:] == ["down"]


def test_a_failing_section_leaves_logs_and_nothing_else(commands: list[str], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="504"), control_plane(tmp_path / "logs"):
        raise RuntimeError("504")
    assert (tmp_path / "logs" / "kube-apiserver.log").read_text() == "last words"
    assert commands[-1] == "down"


def test_a_second_run_at_the_same_time_is_refused_before_it_wipes_the_first_ones(
    commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plan.clusters_folder() / "bench.used"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(controlplane, "WAIT_SECONDS", 0.2)
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with (
            pytest.raises(ClusterError, match="another process has been using the control plane bench"),
            control_plane(tmp_path / "logs"),
        ):
            raise AssertionError("it is another's")
    assert commands == []
