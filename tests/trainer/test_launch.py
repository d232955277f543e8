"""The trainer's own torchrun: forked ranks end, fail, are started again and are seen as torchrun's are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from modelyard.contract import codes
from modelyard_agent.failure import diagnose
from modelyard_agent.processes import list_descendants
from modelyard_agent.supervisor import Ending
from modelyard_agent.workers import Workers
from modelyard_trainer.launch import forking

from tests.trainer.warm import FIXED, free_port
from tests.unit.trainer.exported import write_model

_LIMIT_SECONDS = 120
_SLEEP = "import time\n(folder / f'up-{rank}').touch()\ntime.sleep(600)"


def start(
    folder: Path,
    behaviour: str,
    processes: int = 1,
    restarts: int = 0,
    node: Sequence[str] = (),
    **environment: str,
) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "tests.trainer.forked", f"--nproc-per-node={processes}", f"--max-restarts={restarts}",
        "--monitor-interval=0.1", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", f"--log-dir={folder}/log",
        *node,
    ]  # fmt: skip
    told = {"BEHAVIOUR": behaviour, "FOLDER": str(folder), codes.ENV_RUNTIME_DIR: str(folder), **environment}
    return subprocess.Popen(
        command, env=os.environ | FIXED | told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(folder: Path, behaviour: str, processes: int = 1, **options: Any) -> tuple[int, str]:
    process = start(folder, behaviour, processes, **options)
    output, _ = process.communicate(timeout=_LIMIT_SECONDS)
    return process.returncode, output


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def living(root: int) -> list[int]:
    return [p.pid for p in list_descendants(root) if p.state != "Z"]


def test_ranks_begin_with_what_was_imported_once(tmp_path: Path) -> None:
    code, output = run(tmp_path, "(folder / f'{rank}-{forked}').touch()", processes=2)
    assert code == 0, output
    assert sorted(p.name for p in tmp_path.glob("?-*")) == ["0-True", "1-True"]
    introduced = [json.loads(p.read_text()) for p in (tmp_path / codes.RANKS_FOLDER).iterdir()]
    assert sorted((i["RANK"], i["LOCAL_RANK"], i["TORCHELASTIC_RESTART_COUNT"]) for i in introduced) == [
        ("0", "0", "0"), ("1", "1", "0")
    ]  # fmt: skip


def test_what_is_really_imported_leaves_no_thread_pool_that_a_fork_would_break(tmp_path: Path) -> None:
    behaviour = (
        "import sys, numpy, torch\n"
        "assert {'transformers.trainer', 'deepspeed.runtime.zero.muon.muon_optimizer'} <= set(sys.modules)\n"
        "assert torch.get_num_threads() == 2\n"
        "big = torch.rand(1500, 1500)\n"
        "assert (big @ big).double().sum() > 0 and torch.randperm(1 << 20).float().sort().values[0] == 0\n"
        "assert numpy.linalg.inv(numpy.eye(800)).sum() == 800"
    )
    code, output = run(tmp_path, behaviour, IMPORTS="1", OMP_NUM_THREADS="2")
    assert code == 0, output


@pytest.mark.parametrize(
    ("behaviour", "code", "reason", "said"),
    [
        ("print('bad batch size'); code = 2", codes.EXIT_USER_ERROR, "UserCodeError", "exit code 2: bad batch size"),
        ("code = 75", codes.EXIT_TEMPORARY, "UserCodeError", "exit code 75"),
        ("raise KeyError('no such column')", 1, "UserCodeError", "KeyError: 'no such column'"),
        ("import os; os.kill(os.getpid(), 9)", codes.EXIT_TEMPORARY, "ProcessKilled", "killed by SIGKILL"),
    ],
)  # fmt: skip
def test_a_rank_that_fails_is_told_as_torchrun_tells_it(
    tmp_path: Path, behaviour: str, code: int, reason: str, said: str
) -> None:
    lines = "\n".join(f"    {line}" for line in behaviour.splitlines())
    ended, output = run(
        tmp_path, f"if rank == 1:\n{lines}\nelse:\n    import time; time.sleep(600)", processes=2
    )
    assert ended != 0
    ending = Ending(code=ended, began=True, tail=output.splitlines())
    failure, exit_code = diagnose(ending, tmp_path / "log", lambda text: text)
    assert (failure["reason"], failure["rank"], exit_code) == (reason, 1, code), output
    assert said in failure["message"]


def test_a_rank_that_dies_is_started_again_at_once_and_the_agent_sees_it(tmp_path: Path) -> None:
    behaviour = (
        "import os, time\n(folder / f'{rank}-{restart}-{forked}').touch()\n"
        "if rank == 1 and restart == 0: os.kill(os.getpid(), 9)\n"
        "while not (folder / 'go').exists(): time.sleep(0.05)"
    )
    process = start(tmp_path, behaviour, processes=2, restarts=1)
    workers = Workers(tmp_path / codes.RANKS_FOLDER)

    def seen() -> bool:
        workers.observe(process.pid, list_descendants(process.pid))
        return workers.restarts == 1 and (tmp_path / "1-1-True").exists() and (tmp_path / "0-1-True").exists()

    wait_for(seen)
    assert workers.are_alive(list_descendants(process.pid))
    (tmp_path / "go").touch()
    output, _ = process.communicate(timeout=_LIMIT_SECONDS)
    assert process.returncode == 0, output


def test_a_rank_has_its_model_loaded_back_by_a_child_of_the_server(tmp_path: Path) -> None:
    write_model(tmp_path)
    behaviour = (
        "import os, pathlib, subprocess\n"
        "from modelyard_trainer.train import reload\n"
        "subprocess.Popen = None  # so that nothing is started as a program\n"
        "reload._BEAT_SECONDS = 0.02\n"
        "def kill():\n"
        "    for process in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "        if process.name in children() and (process / 'comm').read_text() == 'verify\\n':\n"
        "            os.kill(int(process.name), 9)\n"
        "def children():\n"
        "    return pathlib.Path(f'/proc/{os.getppid()}/task/{os.getppid()}/children').read_text().split()\n"
        "def check(beat=lambda: None, limit=100):\n"
        "    went = reload.reload_folder(folder / 'model', beat, limit)\n"
        "    print('SAID', went.difference, went.problem, went.unable, sep='|')\n"
        "check()\n"
        "check(kill)\n"
        "check(limit=0.01)\n"
        "(folder / 'model' / 'config.json').write_text('{')\n"
        "check()"
    )
    code, output = run(tmp_path, behaviour, IMPORTS="1")
    assert code == 0, output
    said = [line.split("|")[1:] for line in output.splitlines() if line.startswith("SAID")]
    assert [float(said[0][0]) < 1e-5, *said[0][1:]] == [True, "None", "None"]
    assert [words[2] for words in said[1:3]] == [
        "the process that loaded it again was killed (signal 9)",
        "loading it again took longer than 0 minutes",
    ]
    assert said[3][1].startswith("transformers can't load it: OSError: It looks like the config file")
    assert "Traceback" in output, "the log has what the message has no room for"


def place(node: int, port: int, join_seconds: int) -> list[str]:
    """What the agent tells the launcher of one of two nodes."""
    conf = f"is_host={int(node == 0)},join_timeout={join_seconds},read_timeout=60"
    return [
        "--nnodes=2", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=two", f"--rdzv-conf={conf}",
        "--local-addr=127.0.0.1",
    ]  # fmt: skip


def test_another_node_imports_before_node_0_listens_and_begins_with_it(tmp_path: Path) -> None:
    behaviour, port, folders = (
        "(folder / f'up-{rank}').touch()",
        free_port(),
        [tmp_path / "0", tmp_path / "1"],
    )
    for folder in folders:
        folder.mkdir()
    second = start(folders[1], behaviour, node=place(1, port, 60))
    wait_for(lambda: len(living(second.pid)) >= 2)  # the server that forks, and the tracker of its resources
    first = start(folders[0], behaviour, node=place(0, port, 60))
    for process in (first, second):
        output, _ = process.communicate(timeout=_LIMIT_SECONDS)
        assert process.returncode == 0, output
    assert sorted(path.name for folder in folders for path in folder.glob("up-*")) == ["up-0", "up-1"]


def test_node_0_that_does_not_come_is_a_temporary_failure_that_names_it(tmp_path: Path) -> None:
    ended, output = run(tmp_path, "", node=place(1, free_port(), 1))
    failure, exit_code = diagnose(
        Ending(code=ended, tail=output.splitlines()), tmp_path / "log", lambda text: text
    )
    assert (failure["reason"], exit_code) == ("RendezvousFailed", codes.EXIT_TEMPORARY), output
    assert "does not answer" in failure["message"] and "is pod 0 running?" in failure["message"]


def test_whoever_ends_torchrun_ends_its_ranks_and_their_server(tmp_path: Path) -> None:
    process = start(tmp_path, _SLEEP, processes=2)
    wait_for(lambda: (tmp_path / "up-0").exists() and (tmp_path / "up-1").exists())
    below = living(process.pid)
    assert len(below) >= 3
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_LIMIT_SECONDS)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_ranks_are_programs_where_the_import_has_spoilt_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from modelyard_trainer.launch import main

    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(forking, "import_all", lambda: None)
    monkeypatch.setattr(
        main, "elastic_launch", lambda config, entry: lambda *words: asked.append((entry, words))
    )
    assert main.main(["--nproc-per-node=1", f"--log-dir={tmp_path}"]) == 0
    assert asked == [(sys.executable, ("-u", "-m", "modelyard_trainer.train"))]
