"""SIGTERM becomes an agreed stop."""

import pytest

from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import wait_until

AGREEABLE = """
client.report(state="training", step=7, maxSteps=100, stepSeconds=0.1)
wait_for((runtime / "stop").exists)
answer = save(8)
put("result.json", {"outcome": "preempted", "step": 8, "lastCheckpoint": answer["checkpoint"]})
sys.exit(1)  # as torchrun does whenever it was signalled
"""


def test_sigterm_lets_the_trainer_save_and_leave(make_pod: MakePod) -> None:
    pod = make_pod().start(AGREEABLE)
    wait_until(lambda: pod.progress().step == 7, "the first report")
    pod.stop()
    assert pod.wait() == 143
    result = pod.result()
    assert (result.outcome, result.step, result.lost_steps) == ("preempted", 8, 0)
    assert result.last_checkpoint is not None and result.last_checkpoint.world_size == 2
    assert (pod.run_path / "a0/checkpoint-8/manifest.json").exists()
    assert (pod.run_path / "result.json").exists()
    assert (pod.run_path / "a0/node-0.json").exists()


def test_a_trainer_that_does_not_leave_in_time_is_ended(make_pod: MakePod) -> None:
    pod = make_pod(grace_seconds=3.0).start(
        """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
client.report(state="training", step=7)
time.sleep(600)
"""
    )
    wait_until(lambda: pod.progress().step == 7, "the first report")
    pod.stop()
    assert pod.wait() == 143
    result = pod.result()
    assert (result.outcome, result.lost_steps) == ("preempted", 7)
    assert result.failure is not None and result.failure.reason == "StopTimedOut"


LONELY = """
import subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as torchrun, which would wait for its workers and peers
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep({seconds})"],
                          env=dict(os.environ, RANK="0", LOCAL_RANK="0"))
client.report(state="training", step=7)
{then}
worker.wait()
time.sleep(600)
"""


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "at its own end"])
@pytest.mark.parametrize("seconds", [0, 600], ids=["ranks that have left", "ranks that wait for others"])
def test_a_node_that_has_its_result_does_not_wait_for_one_that_vanished(
    make_pod: MakePod, seconds: int, stopped: bool
) -> None:
    result = {"outcome": "preempted" if stopped else "succeeded", "step": 8}
    then = f"put('result.json', {result})"
    pod = make_pod(grace_seconds=600.0).start(LONELY.format(seconds=seconds, then=then))
    wait_until(lambda: pod.progress().step == 7, "the first report")
    if stopped:
        pod.stop()
    assert pod.wait() == (143 if stopped else 0)
    assert (pod.result().outcome, pod.result().step) == (result["outcome"], 8)
    assert pod.result().failure is None
    assert "leaving without the other nodes" in pod.log()


def test_a_stopped_node_whose_ranks_have_died_does_not_wait_for_others_to_come_back(
    make_pod: MakePod,
) -> None:
    pod = make_pod(grace_seconds=600.0).start(LONELY.format(seconds=3, then=""))
    wait_until(lambda: pod.progress().step == 7, "the first report")
    pod.stop()
    assert pod.wait() == 143
    assert (pod.result().outcome, pod.result().lost_steps) == ("preempted", 7)


def test_before_training_began_there_is_nothing_to_agree_on(make_pod: MakePod) -> None:
    pod = make_pod(grace_seconds=600.0).start("time.sleep(600)")
    assert pod.port
    pod.stop()
    assert pod.wait() == 143
    assert pod.result().outcome == "preempted"
    assert not (pod.runtime / "stop").exists()


def test_a_users_own_command_gets_the_signal_itself(make_pod: MakePod) -> None:
    pod = make_pod(grace_seconds=600.0).start(
        """
def leave(number, frame):
    (storage / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
client.report(state="training", step=7)
time.sleep(600)
""",
        user_command=("python3", "train.py"),
    )
    wait_until(lambda: pod.progress().step == 7, "the first report")
    pod.stop()
    assert pod.wait() == 143
    assert pod.result().outcome == "preempted"
    assert (pod.storage / "saved").exists()
    assert not (pod.runtime / "stop").exists()


OWN = ("python3", "train.py")


def test_a_stop_while_waiting_for_node_0_ends_the_pod(make_pod: MakePod) -> None:
    pod = make_pod(node=1, num_nodes=2, master_addr="127.0.0.1", rdzv_port=1).start("", user_command=OWN)
    wait_until(lambda: (pod.runtime / "kubeflow-token").exists(), "the agent's start")
    pod.stop()
    assert pod.wait() == 143
    assert (pod.result().outcome, pod.result().node) == ("preempted", 1)


def test_node_0_missing_for_too_long_is_a_temporary_failure(make_pod: MakePod) -> None:
    lost = {"node": 1, "num_nodes": 2, "master_addr": "127.0.0.1", "rdzv_port": 1, "join_seconds": 0.2}
    pod = make_pod(**lost).start("", user_command=OWN)
    assert pod.wait() == 75
    failure = pod.result().failure
    assert failure is not None and failure.reason == "RendezvousFailed" and "pod 0" in failure.message


def test_the_built_in_trainer_is_started_before_node_0_listens(make_pod: MakePod) -> None:
    pod = make_pod(node=1, num_nodes=2, master_addr="127.0.0.1", rdzv_port=1).start(AGREEABLE)
    wait_until(lambda: pod.progress().step == 7, "the first report")
    pod.stop()
    assert pod.wait() == 143
