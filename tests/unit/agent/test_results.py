"""Which result and exit code follow, and how they are written."""

import json
from pathlib import Path
from typing import Any

import pytest
from modelyard.api.trainingjob import Gate
from modelyard.contract.report import PrepareResult, TrainResult
from modelyard.observe.http import MAX_BYTES
from modelyard.training.status.progress import build_gate
from modelyard_agent.redaction import make_redactor
from modelyard_agent.results import decide_prepare, decide_train, fail_early, publish, shrink
from modelyard_agent.settings import Settings
from modelyard_agent.supervisor import Ending

from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import wait_until

REDACT = make_redactor({})
FAILED = {"outcome": "failed", "failure": {"reason": "DataInvalid", "message": "m", "exitCode": 2}}


def settings(folder: Path, **changes: Any) -> Settings:
    runtime = folder / "runtime"
    runtime.mkdir(exist_ok=True)
    paths = {"storage": folder / "storage", "runtime": runtime, "termination_path": folder / "message"}
    return Settings(**{"stage": "train", "run_dir": "runs/team/job-1", **paths, **changes})


@pytest.mark.parametrize(
    ("given", "ending", "node", "own", "outcome", "exit_code"),
    [
        ({"outcome": "succeeded"}, Ending(0), 0, False, "succeeded", 0),
        ({"outcome": "succeeded"}, Ending(1), 0, False, "succeeded", 0),
        ({"outcome": "succeeded"}, Ending(1, stopped=True), 0, False, "succeeded", 0),
        ({"outcome": "gateFailed"}, Ending(0), 0, False, "gateFailed", 0),
        ({"outcome": "preempted"}, Ending(1), 0, False, "preempted", 143),
        (FAILED, Ending(1), 0, False, "failed", 2),
        ({"outcome": "failed"}, Ending(1), 0, False, "failed", 1),
        ({"outcome": "succeeded"}, Ending(1, fatal={"reason": "X"}), 0, False, "failed", 2),
        ({"outcome": "unheard of"}, Ending(1, stopped=True), 0, False, "preempted", 143),
        (None, Ending(1, stopped=True), 0, False, "preempted", 143),
        (None, Ending(None, stopped=True), 1, False, "preempted", 143),
        (None, Ending(0), 1, False, "succeeded", 0),
        (None, Ending(0), 0, True, "succeeded", 0),
        (None, Ending(0), 0, False, "failed", 1),
        (None, Ending(1), 0, True, "failed", 1),
    ],
)
def test_the_result_file_decides_before_the_exit_code(
    tmp_path: Path, given: object, ending: Ending, node: int, own: bool, outcome: str, exit_code: int
) -> None:
    pod = settings(tmp_path, node=node)
    if given is not None:
        (pod.runtime / "result.json").write_text(json.dumps(given))
    result, code = decide_train(pod, ending, own, {"step": 3}, REDACT)
    assert (result["outcome"], code) == (outcome, exit_code)
    assert TrainResult.model_validate_json(shrink(result, 4096), strict=True).node == node


def test_where_the_time_went_is_the_agents_to_say(tmp_path: Path) -> None:
    pod = settings(tmp_path)
    given = TrainResult(outcome="succeeded", attempt=0).model_dump_json(by_alias=True, exclude_none=True)
    (pod.runtime / "result.json").write_text(given)
    told = {"step": 3, "seconds": {"starting": 5.0, "training": 9.5}}
    result, _ = decide_train(pod, Ending(0), False, told, REDACT)
    assert result["seconds"] == told["seconds"]


@pytest.mark.parametrize(
    ("given", "ending", "outcome", "exit_code"),
    [
        ({"outcome": "succeeded", "digest": "sha256-1", "rowsIn": 5}, Ending(0), "succeeded", 0),
        (FAILED, Ending(2), "failed", 2),
        (None, Ending(75, tail=["hub is down"]), "failed", 75),
        (None, Ending(-15, stopped=True), "failed", 143),
        (None, Ending(0), "failed", 1),
    ],
)
def test_a_prepare_result_follows_the_same_rules(
    tmp_path: Path, given: object, ending: Ending, outcome: str, exit_code: int
) -> None:
    pod = settings(tmp_path, stage="prepare")
    if given is not None:
        (pod.runtime / "result.json").write_text(json.dumps(given))
    result, code = decide_prepare(pod, ending, REDACT)
    assert (result["outcome"], code) == (outcome, exit_code)
    PrepareResult.model_validate_json(shrink(result, 4096), strict=True)


def test_a_termination_message_fits_and_loses_the_excerpts_beginning_first(tmp_path: Path) -> None:
    result, _ = fail_early(settings(tmp_path), "UserCodeError", "what to do", 1)
    result["failure"]["excerpt"] = 'früh "quoted"\n' * 900 + "the end"
    data = shrink(result, 4096)
    failure = TrainResult.model_validate_json(data, strict=True).failure
    assert 3000 < len(data) <= 4096 and failure is not None and failure.excerpt is not None
    assert failure.message == "what to do" and failure.excerpt.endswith("the end")


def test_a_long_message_and_many_metrics_still_fit(tmp_path: Path) -> None:
    result, _ = fail_early(settings(tmp_path), "UserCodeError", "m\\" * 9000, 1)
    result["metrics"] = {f"metric {index}": index / 3 for index in range(900)}
    data = shrink(result, 4096)
    assert len(data) <= 4096
    parsed = TrainResult.model_validate_json(data, strict=True)
    assert parsed.failure is not None and parsed.failure.reason == "UserCodeError"


def test_of_many_metrics_the_first_are_kept_as_many_as_fit() -> None:
    metrics = {"eval_f1": 0.9, "loss": 0.5, **{f"norm of layer ü {index}": 1.0 for index in range(300)}}
    result = {"outcome": "succeeded", "attempt": 1, "metrics": metrics, "baseline": metrics}
    data = shrink(result, 4096)
    parsed = TrainResult.model_validate_json(data, strict=True)
    kept = list(parsed.metrics.items())
    assert 4000 < len(data) <= 4096 and not parsed.baseline
    assert len(kept) > 50 and kept == list(metrics.items())[: len(kept)]
    assert len(shrink({**result, "metrics": {"m" * 5000: 1.0}}, 4096)) <= 4096


def test_a_program_that_tells_of_everything_is_judged_by_the_gates_metric(make_pod: MakePod) -> None:
    pod = make_pod(run_config={"gate": {"metric": "eval_score", "min": 0.5}}).start(
        """
client.report(step=7, metrics={"attention of layer %d" % index: 1.0 for index in range(3000)})
client.report(metrics={"eval_score": 0.75})
wait_for((runtime / "go").exists)
""",
        user_command=("python3", "train.py"),
    )
    wait_until(lambda: "eval_score" in pod.progress().metrics, "the reports")
    assert len(pod.get("/v1/progress")[1]) < MAX_BYTES
    assert 'modelyard_training_metric{name="eval_score"} 0.75' in pod.get("/metrics")[1].decode()
    (pod.runtime / "go").touch()
    assert pod.wait() == 0
    verdict = build_gate(pod.result(), Gate(metric="eval_score", min=0.5))
    assert verdict is not None and verdict.passed
    assert "attention of layer" in pod.log()


def test_many_warnings_keep_their_reasons_and_counts_and_lose_words(tmp_path: Path) -> None:
    names = [chr(65 + index // 26) + chr(97 + index % 26) * 30 for index in range(32)]
    warnings = [{"reason": name, "count": index, "message": "ü" * 600} for index, name in enumerate(names)]
    removed = [{"step": "1.filter", "reason": "tooFewTokens", "rows": 5}]
    result = {"stage": "prepare", "outcome": "succeeded", "digest": "sha256-" + "0" * 64, "rowsIn": 9}
    data = shrink({**result, "warnings": warnings, "removed": removed}, 4096)
    read = PrepareResult.model_validate_json(data, strict=True)
    assert len(data) <= 4096 and read.digest == result["digest"] and read.rows_in == 9
    assert [(w.reason, w.count) for w in read.warnings] == [(name, i) for i, name in enumerate(names)]
    few = PrepareResult.model_validate_json(shrink({**result, "warnings": warnings[:4]}, 4096), strict=True)
    assert all(len(w.message) > 300 and w.message.endswith("…") for w in few.warnings)


@pytest.mark.parametrize("warnings", [[{"reason": "R" * 9000}] * 40, ["text", 5], {"a": 1}])
def test_warnings_that_cannot_be_shortened_never_cost_the_result(warnings: Any) -> None:
    data = shrink(
        {"outcome": "succeeded", "digest": "d", "warnings": warnings, "splits": {"x" * 5000: 1}}, 4096
    )
    assert len(data) <= 4096
    assert json.loads(data)["digest"] == "d"


def test_numbers_that_json_does_not_have_are_left_out(tmp_path: Path) -> None:
    gate = {"metric": "eval_loss", "value": float("nan"), "threshold": 0.1, "passed": False}
    given = {"outcome": "gateFailed", "metrics": {"eval_loss": float("nan"), "accuracy": 0.5}, "gate": gate}
    pod = settings(tmp_path)
    (pod.runtime / "result.json").write_text(json.dumps(given))
    result, _ = decide_train(pod, Ending(0), False, {}, REDACT)
    parsed = TrainResult.model_validate_json(shrink(result, 4096), strict=True)
    assert parsed.metrics == {"accuracy": 0.5} and parsed.gate is not None and parsed.gate.value is None


def test_a_zombie_does_not_overwrite_its_successors_result(tmp_path: Path) -> None:
    for attempt in (3, 2):
        pod = settings(tmp_path, attempt=attempt)
        publish(pod, fail_early(pod, "X", "", 1)[0], 60.0)
    run = tmp_path / "storage/runs/team/job-1"
    assert json.loads((run / "result.json").read_text())["attempt"] == 3
    assert (run / "a2/node-0.json").exists()


def test_a_broken_store_leaves_the_termination_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "storage").write_text("a file where the volume should be")
    pod = settings(tmp_path)
    publish(pod, fail_early(pod, "X", "", 1)[0], 60.0)
    assert TrainResult.model_validate_json(pod.termination_path.read_bytes()).outcome == "failed"
    assert "the result is not kept" in capfd.readouterr().err


def test_collect_brings_a_stored_result_back(make_pod: MakePod) -> None:
    pod = make_pod(stage="collect")
    pod.run_path.mkdir(parents=True)
    (pod.run_path / "result.json").write_text('{"stage":"train","outcome":"succeeded","attempt":4,"step":9}')
    assert pod.start("").wait() == 0
    assert (pod.result().attempt, pod.result().step) == (4, 9)


def test_collect_without_a_stored_result_is_a_temporary_failure(make_pod: MakePod) -> None:
    pod = make_pod(stage="collect").start("")
    assert pod.wait() == 75
    failure = pod.result().failure
    assert failure is not None and failure.reason == "NoResult"


def test_collect_brings_back_no_success_whose_model_is_gone(make_pod: MakePod) -> None:
    pod = make_pod(stage="collect")
    pod.run_path.mkdir(parents=True)
    stored = {
        "stage": "train",
        "outcome": "succeeded",
        "attempt": 4,
        "model": {"path": "runs/m", "digest": "d"},
    }
    (pod.run_path / "result.json").write_text(json.dumps(stored))
    assert pod.start("").wait() == 75
    failure = pod.result().failure
    assert failure is not None and "its model is gone" in failure.message
    again = make_pod("again", stage="collect")
    again.run_path.mkdir(parents=True)
    (again.run_path / "result.json").write_text(json.dumps(stored))
    (again.storage / "runs/m").mkdir()
    assert again.start("").wait() == 0 and again.result().outcome == "succeeded"


def test_training_survives_a_store_that_cannot_be_written(make_pod: MakePod) -> None:
    pod = make_pod()
    (pod.storage / "runs").write_text("a file where a folder should be")
    pod.start('print("hello"); put("result.json", {"outcome": "succeeded"})')
    assert pod.wait() == 0
    assert pod.result().outcome == "succeeded"
    assert "nothing can be written below" in pod.log() and "hello" in pod.log()
