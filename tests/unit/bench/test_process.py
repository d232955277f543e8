"""An operator that dies is a failure with its last words, never a process at rest."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from tests.bench.burst import ensure_leader
from tests.bench.process import Operator


def start(folder: Path, script: str) -> Operator:
    operator = Operator("unused", folder / "profiles.yaml", folder / "log")
    operator.arguments = [sys.executable, "-c", script]
    operator.start()
    return operator


def wait_for_log(operator: Operator, text: str) -> None:
    until = time.monotonic() + 20
    while text not in operator.tail(5):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_operator_that_has_ended_is_told_with_its_code_and_last_words(tmp_path: Path) -> None:
    operator = start(tmp_path, "raise SystemExit('the port is taken')")
    wait_for_log(operator, "taken")
    assert operator.process is not None
    operator.process.wait(20)
    with pytest.raises(RuntimeError, match=r"ended by itself with 1; its log .* ends: the port is taken"):
        _ = operator.pid
    assert not operator.runs
    operator.stop()


def test_an_operator_deaf_to_sigterm_is_killed_and_that_is_said(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    operator = start(tmp_path, script)
    wait_for_log(operator, "deaf")
    process = operator.process
    assert process is not None
    with pytest.raises(TimeoutError, match="had to be killed 0 s later"):
        operator.stop(seconds=0.2)
    assert process.returncode == -9
    assert operator.output is None


def test_stopping_twice_does_nothing(tmp_path: Path) -> None:
    operator = start(tmp_path, "import time; time.sleep(60)")
    assert operator.runs
    operator.stop()
    operator.stop()
    assert not operator.runs


def test_only_the_present_process_is_taken_for_the_leader(tmp_path: Path) -> None:
    line = """print('{"message": "leading"}', flush=True); """
    operator = start(tmp_path, line + "import time; time.sleep(60)")
    wait_for_log(operator, "leading")
    assert operator.leads()
    operator.stop()
    operator.arguments[-1] = "import time; time.sleep(60)"
    operator.start()
    assert not operator.leads()
    with pytest.raises(TimeoutError, match="has no Lease after 0 s"):
        asyncio.run(ensure_leader(operator, 0.3))
    operator.stop()
    operator.arguments[-1] = line + "import time; time.sleep(60)"
    asyncio.run(ensure_leader(operator, 20))
    operator.stop()
