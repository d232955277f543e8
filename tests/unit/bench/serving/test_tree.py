"""CPU and memory of a tree, held against what its processes say of themselves."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench.serving import tree as tree_module
from tests.bench.serving.tree import MEMORY_SECONDS, Tree

_PR_SET_CHILD_SUBREAPER = 36

# burn(s): uses so many CPU seconds; say(): writes what this process has used. Each does what it is told, line by line.
HEAD = """
import os, signal, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
def say():
    open(os.environ["OUT"], "a").write(f"{time.process_time()}\\n")
def fork(work):
    pid = os.fork()
    if not pid:
        work(); say(); os._exit(0)
    return pid
def wait():
    while not os.path.exists(os.environ["OUT"] + ".go"): time.sleep(0.02)
def turn():
    print("turn", flush=True); sys.stdin.readline()
turn()
"""


class Tool:
    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self.process, self.out = process, out

    def go(self) -> None:
        """Lets those go on that wait."""
        Path(f"{self.out}.go").touch()

    def turn(self, word: str = "turn") -> None:
        """Lets it go on, and waits until it says that it has come to its next turn."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{word}\n"

    def said(self) -> float:
        return sum(map(float, self.out.read_text().splitlines()))


@contextmanager
def running(script: str, folder: Path) -> Iterator[Tool]:
    out = folder / "out"
    command = [sys.executable, "-c", HEAD + script + "\nturn()\n"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"OUT": str(out)}
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "turn\n"
        try:
            yield Tool(process, out)
        finally:
            process.kill()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# User and system time, of a process and of its children, are each cut off to 10 ms; and a process ends after it spoke.
STEPS = 0.1


def test_children_and_theirs_count_also_when_they_have_ended(tmp_path: Path) -> None:
    script = """
def child():
    os.waitpid(fork(lambda: burn(0.2)), 0)
    burn(0.2)
os.waitpid(fork(child), 0)
burn(0.1); say()
"""
    with running(script, tmp_path) as tool, Tree(tool.process.pid) as tree:
        before = tree.look()
        tool.turn()
        assert tree.look() - before == pytest.approx(tool.said(), abs=STEPS)
        assert tool.said() > 0.5


def test_children_that_nobody_waited_for_are_not_lost(tmp_path: Path) -> None:
    script = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
pid = fork(lambda: (burn(0.3), wait()))
turn()
while os.path.exists(f"/proc/{pid}"): time.sleep(0.01)
"""
    with running(script, tmp_path) as tool, Tree(tool.process.pid) as tree:
        before = tree.look()
        tool.turn()
        eventually(lambda: tree.look() - before > 0.25)
        tool.go()
        tool.turn()
        assert tree.look() - before == pytest.approx(tool.said(), abs=STEPS)


def test_a_process_stays_in_the_tree_when_its_parent_ends(tmp_path: Path) -> None:
    script = """
def parent():
    fork(lambda: (wait(), burn(0.3), time.sleep(3)))
    print("forked", flush=True)
    sys.stdin.readline()
os.waitpid(fork(parent), 0)
"""
    with running(script, tmp_path) as tool, Tree(tool.process.pid) as tree:
        before = tree.look()
        tool.turn("forked")
        tree.look()
        tool.turn()
        tool.go()
        eventually(lambda: tree.look() - before > 0.25)
        eventually(lambda: len(tool.out.read_text().splitlines()) == 2)
        assert tree.look() - before == pytest.approx(tool.said(), abs=STEPS)


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Orphans become this process' children, as they become init's elsewhere, which may not wait for them here."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def test_a_parent_and_its_child_that_end_between_two_looks_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subreaper: None
) -> None:
    script = """
def child():
    burn(0.4); say(); open(os.environ["OUT"] + ".pid", "w").write(f"{os.getpid()}\\n"); time.sleep(60)
def parent():
    fork(child); burn(0.2); say(); time.sleep(60)
pid = fork(parent)
turn()
os.kill(pid, 9); os.waitpid(pid, 0)
os.kill(int(open(os.environ["OUT"] + ".pid").read()), 9)
"""
    monkeypatch.setattr(tree_module, "LOOK_SECONDS", 60.0)  # only this test looks
    with running(script, tmp_path) as tool, Tree(tool.process.pid) as tree:
        tool.turn()
        eventually(lambda: len(tool.out.read_text().splitlines()) == 2 if tool.out.exists() else False)
        orphan = Path(f"{tool.out}.pid")
        eventually(lambda: orphan.exists() and orphan.read_text().endswith("\n"))
        before = tree.look()
        assert before > 0.55
        tool.turn()
        os.waitpid(int(orphan.read_text()), 0)
        assert tree.look() == pytest.approx(before, abs=STEPS)
        assert tree.look() >= before


def test_shared_memory_counts_once_and_the_peak_stays(tmp_path: Path) -> None:
    script = """
block = b"x" * (100 << 20)
children = [fork(lambda: time.sleep(60)) for _ in range(3)]
turn()
for pid in children: os.kill(pid, 9); os.waitpid(pid, 0)
del block
"""
    with running(script, tmp_path) as tool, Tree(tool.process.pid) as tree:
        tool.turn()
        eventually(lambda: tree.peak_mib > 100)
        tool.turn()
        time.sleep(2 * MEMORY_SECONDS)
        assert 100 < tree.peak_mib < 200


def test_a_tree_whose_root_has_ended_is_an_error(tmp_path: Path) -> None:
    with running("", tmp_path) as tool, Tree(tool.process.pid) as tree:
        tool.process.kill()
        tool.process.wait()
        with pytest.raises(ProcessLookupError, match="has ended"):
            tree.look()
    with contextlib.suppress(ProcessLookupError):
        Tree(tool.process.pid)
        raise AssertionError("there is a process with a pid that was just given back")
