"""The supervisor, with real processes that only sleep."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.shell import ClusterError
from tests.cluster.supervisor import Component, Supervisor, environment_of, is_beginning

SLEEP = [sys.executable, "-c", "import time; print('started', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, tmp_path / "run", tmp_path / "logs")
    yield supervisor
    supervisor.stop(["part"], seconds=0)


def wait_for_log(supervisor: Supervisor, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in supervisor.log("part").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_running_component_is_left_alone(supervisor: Supervisor) -> None:
    assert supervisor.ensure(Component("part", SLEEP))
    pid = supervisor.pid("part")
    assert not supervisor.ensure(Component("part", SLEEP))
    assert supervisor.pid("part") == pid


def test_a_component_with_another_command_is_started_again(supervisor: Supervisor) -> None:
    supervisor.ensure(Component("part", SLEEP))
    pid = supervisor.pid("part")
    assert supervisor.ensure(Component("part", [*SLEEP, "more"]))
    assert supervisor.pid("part") not in (None, pid)
    assert environment_of(pid or 0) == {}


def test_a_component_whose_configuration_changed_is_started_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    configuration = tmp_path / "configuration"
    configuration.write_text("one")
    supervisor.ensure(Component("part", SLEEP, [configuration]))
    configuration.write_text("three")
    assert supervisor.ensure(Component("part", SLEEP, [configuration]))


def test_a_process_whose_pid_file_was_never_written_is_found(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.ensure(Component("part", SLEEP))
    pid = supervisor.pid("part")
    (tmp_path / "run" / "part.pid").unlink()
    assert not supervisor.ensure(Component("part", SLEEP))
    assert supervisor.pid("part") == pid
    assert (tmp_path / "run" / "part.pid").read_text() == str(pid)


def test_a_pid_that_belongs_to_somebody_else_is_neither_believed_nor_killed(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "part.pid").write_text(str(os.getpid()))
    assert supervisor.pid("part") is None
    supervisor.stop(["part"])  # would end this test


def test_another_clusters_component_of_the_same_name_is_not_ours(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.ensure(Component("part", SLEEP))
    other = Supervisor(tmp_path / "other", tmp_path / "run", tmp_path / "logs")
    assert other.pid("part") is None


def test_stop_ends_the_process_and_removes_its_pid_file(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.ensure(Component("part", SLEEP))
    supervisor.stop(["part"])
    assert supervisor.pid("part") is None
    assert not (tmp_path / "run" / "part.pid").exists()


def test_what_was_started_a_moment_ago_is_stopped_too(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.ensure(Component("part", SLEEP))
    pid = supervisor.pid("part")
    assert pid is not None
    looks = iter(range(5))
    monkeypatch.setattr(
        "tests.cluster.supervisor.environment_of",
        lambda asked: {} if asked == pid and next(looks, None) is not None else environment_of(asked),
    )
    supervisor.stop(["part"])
    assert not environment_of(pid)


def test_a_process_deaf_to_sigterm_is_killed(supervisor: Supervisor) -> None:
    supervisor.ensure(Component("part", STUBBORN))
    wait_for_log(supervisor, "deaf")
    supervisor.stop(["part"], seconds=0.1)
    assert supervisor.pid("part") is None


def test_a_dead_component_is_reported_with_its_last_words(supervisor: Supervisor) -> None:
    supervisor.ensure(Component("part", SLEEP))
    wait_for_log(supervisor, "started")
    pid = supervisor.pid("part")
    assert pid
    os.kill(pid, signal.SIGKILL)
    while environment_of(pid) or is_beginning(pid):
        time.sleep(0.01)
    with pytest.raises(ClusterError, match=r"part has stopped; its log is .*part\.log and ends:\nstarted"):
        supervisor.must_run("part")


def test_a_component_whose_environment_is_not_there_yet_has_not_stopped(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.ensure(Component("part", SLEEP))
    wait_for_log(supervisor, "started")
    with monkeypatch.context() as early:
        early.setattr("tests.cluster.supervisor.environment_of", lambda pid: {})
        supervisor.must_run("part")


def test_a_component_gets_its_own_environment(supervisor: Supervisor) -> None:
    supervisor.ensure(Component("part", SLEEP, env={"ONLY": "here"}))
    wait_for_log(supervisor, "started")
    assert environment_of(supervisor.pid("part") or 0)["ONLY"] == "here"
