"""The agent as a program: settings, launch, logs, zipapp, Python 3.8."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelyard_agent import launch, resources
from modelyard_agent.logs import StoredLog
from modelyard_agent.settings import Settings, SettingsError, node_address, read_settings
from modelyard_agent.workers import Workers

from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import ROOT, wait_until

SOURCES = [
    *sorted((ROOT / "images/agent").rglob("*.py")),
    *(ROOT / "operator/modelyard/contract" / name for name in ("__init__.py", "codes.py", "layout.py")),
]
# What is used where the image happens to have it; test_hashing runs without.
OPTIONAL = {"hashing.py": {"xxhash"}}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_are_python_3_8_and_standard_library(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    allowed = sys.stdlib_module_names | {"modelyard", "modelyard_agent"} | OPTIONAL.get(path.name, set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(alias.name.partition(".")[0] in allowed for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert str(node.module).partition(".")[0] in allowed
        if isinstance(node, ast.Attribute):  # str methods of 3.9
            assert node.attr not in ("removeprefix", "removesuffix", "is_relative_to", "with_stem")


def test_the_zipapp_runs_alone_and_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    outputs = [tmp_path / "one.pyz", tmp_path / "two.pyz"]
    for output in outputs:
        subprocess.run([sys.executable, str(ROOT / "images/agent/make_zipapp.py"), str(output)], check=True)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    (tmp_path / "storage/runs/j").mkdir(parents=True)
    (tmp_path / "storage/runs/j/result.json").write_text('{"outcome":"succeeded"}')
    environment = {"PATH": os.environ["PATH"], "MODELYARD_STORAGE": str(tmp_path / "storage")}
    command = [sys.executable, "-I", str(outputs[0])]
    done = subprocess.run(
        [*command, "collect"], env={**environment, "MODELYARD_RUN_DIR": "runs/j"}, check=False
    )
    assert done.returncode == 0
    for bad in (["nothing"], ["collect", "--", "python3"]):
        assert (
            subprocess.run([*command, *bad], env=environment, stderr=subprocess.PIPE, check=False).returncode
            == 2
        )
    broken = {**environment, "MODELYARD_NUM_NODES": "many"}
    done = subprocess.run([*command, "train"], env=broken, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2 and b"MODELYARD_NUM_NODES must be a number" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODELYARD_RUN_DIR", "../x"),
        ("MODELYARD_GRACE_SECONDS", "soon"),
        ("MODELYARD_NUM_PROC_PER_NODE", "0"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings("train", {name: value})


def test_pod_0_sorts_first_so_that_it_gets_rank_0() -> None:
    addresses = [node_address("job-train-0-0.job", node, 200) for node in range(200)]
    assert addresses[12] == "job-train-0-12.job"
    assert min(addresses) == addresses[0] == "job-train-0-0.job"


def train_settings(**changes: Any) -> Settings:
    return Settings(**{"stage": "train", "num_nodes": 2, "node": 1, "num_proc": "2", "attempt": 3,
                       "run_dir": "runs/n/j", "master_addr": "j-0.s", "local_addr": "j-1.s",
                       **changes})  # fmt: skip


def test_torchrun_is_started_for_this_node() -> None:
    command = launch.make_train_command(train_settings(), [])
    assert command[1:3] == ["-m", "modelyard_trainer.launch"]
    for argument in (
        "--nnodes=2",
        "--nproc-per-node=2",
        "--rdzv-endpoint=j-0.s:29400",
        "--rdzv-id=runs-n-j-a3",
    ):
        assert argument in command
    assert "--local-addr=j-1.s" in command and any("is_host=0" in argument for argument in command)
    own = launch.make_train_command(train_settings(node=0), ["accelerate", "launch"])
    assert own[-3:] == ["--no-python", "accelerate", "launch"] and any("is_host=1" in item for item in own)


def test_the_childs_environment(tmp_path: Path) -> None:
    settings = train_settings(num_nodes=1, node=0, grace_seconds=100.0, runtime=tmp_path)
    builtin = launch.make_environment(settings, 9, {"KUBEFLOW_TRAINER_SERVER_URL": "http://elsewhere"}, False)
    assert builtin["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "90" and builtin["HF_HUB_OFFLINE"] == "1"
    assert "KUBEFLOW_TRAINER_SERVER_URL" not in builtin and int(builtin["OMP_NUM_THREADS"]) >= 1
    own = launch.make_environment(settings, 9, {"OMP_NUM_THREADS": "7", "no_proxy": "a"}, True)
    assert own["KUBEFLOW_TRAINER_SERVER_URL"] == "http://127.0.0.1:9/kubeflow/status"
    assert own["OMP_NUM_THREADS"] == "7" and own["no_proxy"] == "a,127.0.0.1,localhost"
    assert "HF_HUB_OFFLINE" not in own


def test_cpu_limits_are_read_from_both_cgroup_versions(tmp_path: Path) -> None:
    assert resources.read_cpu_limit(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("250000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert resources.read_cpu_limit(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert resources.read_cpu_limit(tmp_path) == 0.5
    assert resources.count_threads(4, tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert resources.read_cpu_limit(tmp_path) is None


def test_memory_limits_are_read_from_both_cgroup_versions(tmp_path: Path) -> None:
    assert resources.read_memory_limit(tmp_path) is None
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert resources.read_memory_limit(tmp_path) is None
    (tmp_path / "memory/memory.limit_in_bytes").write_text("1073741824\n")
    assert resources.read_memory_limit(tmp_path) == 1 << 30
    (tmp_path / "memory.max").write_text("536870912\n")
    assert resources.read_memory_limit(tmp_path) == 1 << 29
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory/memory.limit_in_bytes").unlink()
    assert resources.read_memory_limit(tmp_path) is None


def test_oom_kills_are_read_from_both_cgroup_versions(tmp_path: Path) -> None:
    assert resources.read_oom_kills(tmp_path) == 0
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert resources.read_oom_kills(tmp_path) == 2
    (tmp_path / "memory.events").write_text("oom 4\noom_kill 3\noom_group_kill 0\n")
    assert resources.read_oom_kills(tmp_path) == 3


def test_a_stored_log_is_bounded(tmp_path: Path) -> None:
    log = StoredLog(tmp_path / "logs/a0-node0.log", limit=100)
    for index in range(10):
        log.write(b"%d" % index * 60)
    log.close(60.0)
    files = {path.name: path.stat().st_size for path in (tmp_path / "logs").iterdir()}
    assert set(files) == {"a0-node0.log", "a0-node0.log.1"} and max(files.values()) < 200
    assert (tmp_path / "logs/a0-node0.log").read_bytes().endswith(b"9" * 60)


def test_restarts_in_place_are_seen_in_the_process_table(make_pod: MakePod) -> None:
    pod = make_pod().start(
        """
import subprocess
for start in range(2):
    environment = dict(os.environ, RANK="0", LOCAL_RANK="0", TORCHELASTIC_RESTART_COUNT=str(start))
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    wait_for((runtime / ("go%d" % start)).exists)
    worker.kill(); worker.wait()
put("result.json", {"outcome": "succeeded"})
"""
    )
    assert pod.port
    (pod.runtime / "go0").touch()
    wait_until(lambda: pod.progress().process_restarts == 1, "the restart")
    (pod.runtime / "go1").touch()
    assert pod.wait() == 0
    assert pod.result().process_restarts == 1


def test_no_workers_are_seen_where_there_are_none(tmp_path: Path) -> None:
    workers = Workers(tmp_path / "ranks")
    workers.observe(1, [])
    assert not workers.seen and workers.restarts == 0
