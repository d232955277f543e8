"""An attempt ends once a later one has begun, and deletes nothing that the later one may read."""

from pathlib import Path

from modelyard.contract import codes
from modelyard_agent.succession import find_successor

from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import wait_until

STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
client.report(state="training", step=7)
time.sleep(600)
"""


def test_only_later_attempts_are_successors(tmp_path: Path) -> None:
    for name in ("a1", "a2", "a10", "model", "a3x"):
        (tmp_path / name).mkdir()
    (tmp_path / "a11").touch()  # a file is no attempt's folder
    assert find_successor(tmp_path, 1) == 10
    assert find_successor(tmp_path, 10) is None
    assert find_successor(tmp_path / "unreachable", 1) is None


def test_a_pod_that_lived_on_is_ended_at_once_when_the_next_attempt_begins(make_pod: MakePod) -> None:
    pod = make_pod(attempt=1, grace_seconds=600.0).start(STUBBORN)
    wait_until(lambda: pod.progress().step == 7, "the first report")
    (pod.run_path / "a2").mkdir()
    assert pod.wait() == codes.EXIT_TEMPORARY
    result = pod.result()
    assert result.failure is not None and result.failure.reason == "Superseded"
    assert result.outcome == "failed"


def test_earlier_attempts_are_no_reason_to_end(make_pod: MakePod) -> None:
    pod = make_pod(attempt=2)
    (pod.run_path / "a1").mkdir(parents=True)
    pod.start("put('result.json', {'outcome': 'succeeded', 'step': 1})")
    assert pod.wait() == 0
    assert pod.result().outcome == "succeeded"


def test_a_superseded_attempt_deletes_no_checkpoint(make_pod: MakePod) -> None:
    pod = make_pod().start(
        """
save(1)
(storage / os.environ["MODELYARD_RUN_DIR"] / "a1").mkdir()
save(2)
time.sleep(600)
"""
    )
    pod.wait()
    assert (pod.run_path / "a0/checkpoint-1/manifest.json").exists()
