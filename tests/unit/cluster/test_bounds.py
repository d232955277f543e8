"""No command, lock or process keeps a cluster's start or end waiting for ever, and one failure is not the end."""

from __future__ import annotations

import fcntl
import sys
import time
from pathlib import Path

import pytest

from tests.cluster import cache, images, native, network, node, plan, supervisor
from tests.cluster.shell import ClusterError, attempt, run, run_online
from tests.cluster.supervisor import Component, Supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_command_that_hangs_is_killed_and_named() -> None:
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"`.*time.sleep\(60\)` was not done after 0 s"):
        run(SLEEP, seconds=0.2)
    assert attempt(SLEEP, seconds=0.2) is None
    assert time.monotonic() - began < 20


def failing(folder: Path, words: str, failures: int) -> list[str]:
    """A command that fails so often with these words, and then prints how often it was run."""
    script = (
        f"import pathlib, sys; p = pathlib.Path({str(folder / 'runs')!r}); "
        "n = int(p.read_text()) if p.exists() else 0; "
        f"p.write_text(str(n + 1)); sys.exit({words!r}) if n < {failures} else print(n + 1)"
    )
    return [sys.executable, "-c", script]


@pytest.mark.parametrize(
    "words",
    [
        "E: Failed to fetch http://deb/x.deb  Connection timed out",
        "go: module x: read tcp 10.0.0.1: connection reset by peer",
        "dial tcp: lookup proxy: no such host",
        "Temporary failure in name resolution",
    ],
)
def test_a_download_is_tried_again_when_the_network_failed(tmp_path: Path, words: str) -> None:
    assert run_online(failing(tmp_path, words, 2), pause=0).strip() == "3"
    (tmp_path / "runs").unlink()
    with pytest.raises(ClusterError):
        run_online(failing(tmp_path, words, 3), pause=0)


def test_what_is_wrong_with_the_command_itself_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="unable to locate package"):
        run_online(failing(tmp_path, "unable to locate package runk", 1), pause=0)
    assert (tmp_path / "runs").read_text() == "1"


def test_a_lock_that_is_never_released_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with (
            pytest.raises(ClusterError, match=r"another process has been building for 0 s; .*lock open"),
            cache.locked(path, "building", seconds=0.2),
        ):
            raise AssertionError("the lock is held by another")
    with cache.locked(path, "building", seconds=0.2):
        pass


def test_a_process_that_does_not_end_is_named_after_the_others_have_been_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Supervisor(tmp_path, tmp_path / "run", tmp_path / "logs")
    for name in ("hanging", "good"):
        parts.ensure(Component(name, SLEEP))
    hanging = parts.pid("hanging")
    monkeypatch.setattr(supervisor, "KILL_SECONDS", 0.1)
    with (
        monkeypatch.context() as disk,
        pytest.raises(ClusterError, match=rf"hanging \(pid {hanging}\) did not end"),
    ):
        send = supervisor._send
        disk.setattr(supervisor, "_send", lambda pid, number: None if pid == hanging else send(pid, number))
        parts.stop(["hanging", "good"], seconds=0.2)
    assert parts.pid("good") is None
    assert parts.pid("hanging") == hanging
    parts.stop(["hanging"])
    assert parts.pid("hanging") is None


def test_an_import_that_hangs_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Image:
        name = "localhost/x:1"

        def write(self, target: object, held: object) -> int:
            return 0

    monkeypatch.setattr(images, "ctr", lambda cluster, *words: SLEEP)
    monkeypatch.setattr(images, "IMPORT_SECONDS", 0.3)
    with pytest.raises(ClusterError, match="containerd did not take localhost/x:1"):
        images._stream(plan.Cluster("default", 0, False).nodes[0], Image(), ())  # type: ignore[arg-type]


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, cache_root: Path) -> list[str]:
    """A cluster of two nodes that was recorded; what `down` did, with the machine left alone."""
    plan.create("bench", control_plane_only=False, nodes=2)
    done: list[str] = []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(Supervisor, "stop", lambda self, names, seconds=0: done.extend(names))
    monkeypatch.setattr(network, "remove_links", lambda cluster: done.append("links"))
    monkeypatch.setattr(node, "leftovers", lambda cluster: [])
    monkeypatch.setattr(node, "kill_pods_and_shims", lambda one: done.append(f"pods of {one.name}"))
    monkeypatch.setattr(node, "remove_cgroups", lambda one: done.append("groups"))
    monkeypatch.setattr(node, "remove_traces", lambda one: done.append("traces"))
    monkeypatch.setattr(node, "unmount_all", lambda folder: done.append("mounts"))
    monkeypatch.setattr(node, "remove_runtime_state", lambda one: done.append(f"state of {one.name}"))
    return done


def test_what_can_not_be_stopped_keeps_nothing_else_from_being_stopped(
    stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(one: plan.Node) -> None:
        raise ClusterError("processes of pods do not end: {7}")

    monkeypatch.setattr(node, "kill_pods_and_shims", kill)
    with pytest.raises(ClusterError, match=r"processes of pods do not end: \{7\}"):
        native.down("bench", wipe=True)
    assert {"etcd", "kube-apiserver", "mounts", "links", "state of bench-node2"} <= set(stopped)
    assert plan.load("bench"), "what was not removed must still be known"


def test_nothing_is_deleted_below_a_volume_that_is_still_mounted(
    stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmount(folder: Path) -> None:
        raise ClusterError("can not unmount /x: something still uses it")

    monkeypatch.setattr(node, "unmount_all", unmount)
    monkeypatch.setattr(node, "mounts_below", lambda folder, table: ["/x"])
    with pytest.raises(ClusterError, match="can not unmount /x"):
        native.down("bench", wipe=True)
    assert "links" in stopped
    assert not any(step.startswith("state") for step in stopped)
    assert plan.load("bench")


def test_taking_down_what_stops_leaves_nothing(stopped: list[str]) -> None:
    native.down("bench", wipe=True)
    for name in ("bench-node1", "bench-node2"):
        assert stopped.index(f"pods of {name}") < stopped.index("etcd") < stopped.index(f"state of {name}")
    assert plan.load("bench") is None
