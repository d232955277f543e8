"""Crashes: the right reason, the exception's line, the excerpt, no secrets, and what exit code follows."""

from pathlib import Path

import pytest
from modelyard_agent.failure import diagnose
from modelyard_agent.redaction import make_redactor
from modelyard_agent.settings import read_settings
from modelyard_agent.supervisor import Ending

from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import wait_until

# As torch 2.13 prints it.
TORCHRUN = """\
E1124 06:48:00.288000 20787 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: {code}) local_rank: 1 (pid: 20938) of binary: /usr/bin/python3
Traceback (most recent call last):
  File "/usr/lib/python3/site-packages/torch/distributed/run.py", line 1032, in <module>
    main()
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-24_06:48:00
  host      : job-train-0-1
  rank      : 3 (local_rank: 1)
  exitcode  : {code} (pid: 20938)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================"""  # noqa: E501


def end(*output: str, code: int = 1, launcher: bool = True, began: bool = True, oom_kills: int = 0) -> Ending:
    lines = [*output, *(TORCHRUN.format(code=code).splitlines() if launcher else [])]
    return Ending(code=1 if launcher else code, began=began, oom_kills=oom_kills, tail=lines)


@pytest.mark.parametrize(
    ("ending", "reason", "exit_code", "said"),
    [
        (
            end("ValueError: bad batch"),
            "UserCodeError",
            1,
            "rank 3 ended with exit code 1: ValueError: bad batch",
        ),
        (end("usage: train.py", code=2), "UserCodeError", 2, "exit code 2"),
        (end("sh: 1: train.sh: not found", code=127), "CommandNotFound", 2, "train.sh: not found"),
        (end("sh: 1: ./x: Permission denied", code=126), "CommandNotFound", 2, "Permission denied"),
        (
            end("/usr/bin/python3: No module named torch", launcher=False, began=False),
            "TorchNotFound",
            2,
            "install PyTorch",
        ),
        (
            end("ModuleNotFoundError: No module named 'torchvision'"),
            "UserCodeError",
            1,
            "torchvision",
        ),
        (end("hub is down", code=75), "UserCodeError", 75, "exit code 75"),
        (
            end("torch.OutOfMemoryError: CUDA out of memory. Tried"),
            "CUDAOutOfMemory",
            2,
            "perDeviceTrainBatchSize",
        ),
        (end("step 7", code=-9, oom_kills=1), "HostOutOfMemory", 2, "limits.memory"),
        (end("MemoryError"), "HostOutOfMemory", 2, "limits.memory"),
        (end("step 7", code=-9), "ProcessKilled", 75, "SIGKILL"),
        (end("step 7", code=-11), "ProcessKilled", 1, "SIGSEGV"),
        (
            end("RuntimeError: [pair.cc:553] Connection closed by peer [10.0.0.1]:9"),
            "PeerFailed",
            75,
            "another pod",
        ),
        (
            end("torch.distributed.DistNetworkError: timed out", launcher=False, began=False),
            "RendezvousFailed",
            75,
            "did not find each other",
        ),
    ],
)
def test_the_reason_follows_from_what_the_rank_left(
    tmp_path: Path, ending: Ending, reason: str, exit_code: int, said: str
) -> None:
    failure, code = diagnose(ending, tmp_path, make_redactor({}))
    assert (failure["reason"], code) == (reason, exit_code)
    assert said in failure["message"]


def test_the_excerpt_is_the_failing_ranks_own_and_of_its_last_start(tmp_path: Path) -> None:
    first = TORCHRUN.format(code=1).splitlines()[0]
    ending = end(
        "OldError: of the first start", first, "[rank2]: other", "[rank3]: KeyError: 'label'", "step 9"
    )
    failure, _ = diagnose(ending, tmp_path, make_redactor({}))
    assert failure["excerpt"] == "KeyError: 'label'"
    assert failure["rank"] == 3


def test_the_error_file_of_torch_is_preferred(tmp_path: Path) -> None:
    for attempt, text in ((0, "OldError: old"), (1, "ValueError: new")):
        folder = tmp_path / f"run_x/attempt_{attempt}/1"
        folder.mkdir(parents=True)
        extra = f'{{"py_callstack": "Traceback\\n{text}\\n", "timestamp": "17"}}'
        (folder / "error.json").write_text(f'{{"message": {{"message": "{text}", "extraInfo": {extra}}}}}')
    failure, _ = diagnose(end("noise"), tmp_path, make_redactor({}))
    assert failure["excerpt"] == "Traceback\nValueError: new"
    assert failure["message"].endswith("ValueError: new")


def test_values_of_secret_variables_are_masked() -> None:
    environment = {"HF_TOKEN": "hf_abcdef", "DB_PASSWORD": "hf_abcdef123", "API_KEY": "x", "HOME": "/root"}
    assert make_redactor(environment)("hf_abcdef123 hf_abcdef x /root") == "[redacted] [redacted] x /root"


def test_a_crash_is_reported_with_excerpt_and_without_secrets(make_pod: MakePod) -> None:
    pod = make_pod()
    pod.environment = {"HF_TOKEN": "hf_verysecret"}
    pod.start(
        """
client.report(state="training", step=12, maxSteps=20, resumedFrom=10)
client.close()
print("loading")
raise ValueError("no column label, token " + os.environ["HF_TOKEN"])
"""
    )
    assert pod.wait() == 1
    result = pod.result()
    assert (result.outcome, result.step, result.lost_steps) == ("failed", 12, 2)
    assert result.failure is not None and result.failure.excerpt is not None
    assert "ValueError: no column label, token [redacted]" in result.failure.message
    assert "loading" in result.failure.excerpt and "hf_verysecret" not in pod.termination.read_text()
    assert "no column label" in (pod.run_path / "logs/a0-node0.log").read_text()


def test_a_fatal_error_ends_everything_at_once(make_pod: MakePod) -> None:
    pod = make_pod(grace_seconds=600.0).start(
        """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
import subprocess
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
put("other.json", other.pid)
put("fatal.json", {"reason": "DataInvalid", "message": "no column label", "rank": 0})
time.sleep(600)
"""
    )
    assert pod.wait() == 2
    failure = pod.result().failure
    assert failure is not None and (failure.reason, failure.message) == ("DataInvalid", "no column label")
    pid = int((pod.runtime / "other.json").read_text())
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of a process in its own session")


def test_a_fatal_error_may_ask_for_a_retry(make_pod: MakePod) -> None:
    pod = make_pod().start('put("fatal.json", {"reason": "Offline", "exitCode": 75}); time.sleep(600)')
    assert pod.wait() == 75


def test_a_failed_prepare_stage_has_a_failure(make_pod: MakePod) -> None:
    pod = make_pod(stage="prepare").start('put("result.json", {"outcome": "failed"}); sys.exit(1)')
    assert pod.wait() == 1
    assert pod.prepare_result().failure is not None


@pytest.mark.parametrize("text", ["", '{"contractVersion": 1, "task": "text-class'])
@pytest.mark.parametrize(
    ("stage", "command"), [("prepare", ()), ("train", ()), ("train", ("python3", "train.py"))]
)
def test_a_pod_whose_run_config_somebody_took_starts_nothing_and_says_so(
    make_pod: MakePod, tmp_path: Path, stage: str, command: tuple[str, ...], text: str
) -> None:
    (tmp_path / "run.json").write_text(text)
    read = read_settings(stage, {"MODELYARD_RUN_CONFIG": str(tmp_path / "run.json")}).run_config
    pod = make_pod(stage=stage, run_config=read).start("put('started', 1)", user_command=command)
    assert pod.wait() == 2
    result = pod.prepare_result() if stage == "prepare" else pod.result()
    assert result.failure is not None and result.failure.reason == "RunConfigMissing"
    assert "modelyard.dev/run-config" in result.failure.message
    assert not (pod.runtime / "started").exists()
