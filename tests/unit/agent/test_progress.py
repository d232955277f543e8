"""Progress: merged reports, an estimate that is right after a resume, both protocols, both formats."""

import http.client
import json

import pytest
from modelyard.contract.report import ProgressReport
from modelyard.observe.http import MAX_BYTES
from modelyard_agent import kubeflow, metrics
from modelyard_agent.progress import Progress

from tests.unit.agent.conftest import MakePod
from tests.unit.agent.pods import wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def read(progress: Progress) -> ProgressReport:
    return ProgressReport.model_validate_json(json.dumps(progress.snapshot(), allow_nan=False), strict=True)


def test_partial_reports_merge() -> None:
    progress = Progress(attempt=2)
    progress.merge({"state": "training", "step": 4, "maxSteps": 10, "metrics": {"loss": 0.5, "lr": 0.1}})
    progress.merge({"step": 5, "metrics": {"loss": float("nan")}, "epoch": "soon", "state": "asleep"})
    report = read(progress)
    assert (report.attempt, report.state, report.step, report.max_steps, report.epoch) == (
        2,
        "training",
        5,
        10,
        None,
    )
    assert report.metrics == {"lr": 0.1}
    assert 'modelyard_training_metric{name="loss"} NaN' in progress.render()


def test_numbers_beyond_all_floats_cost_nothing_but_themselves() -> None:
    progress = Progress(attempt=1)
    progress.merge(
        {"state": "training", "step": 10**400, "epoch": 10**400, "metrics": {"big": 10**400, "loss": 0.5}}
    )
    progress.merge({"maxSteps": 7})
    report = read(progress)
    assert (report.state, report.step, report.max_steps, report.metrics) == ("training", 0, 7, {"loss": 0.5})


def test_names_that_are_no_text_cost_nothing_but_themselves() -> None:
    progress = Progress(attempt=1)
    progress.merge(
        {"step": 1, "metrics": json.loads('{"half \\ud800": 1, "loss": 0.5, "a\\"b\\\\c\\nd": 2}')}
    )
    assert read(progress).metrics == {"loss": 0.5, "half ?": 1.0, 'a"b\\c\nd': 2.0}
    assert b'{name="half ?"} 1' in progress.render().encode()
    assert b'{name="a\\"b\\\\c\\nd"} 2' in progress.render().encode()


def test_an_end_that_is_beyond_all_numbers_is_not_told() -> None:
    progress = Progress(attempt=1)
    progress.merge({"step": 1, "maxSteps": 10**300, "stepSeconds": 1e300})
    assert read(progress).seconds_left is None


def test_more_names_than_there_is_room_for_cost_the_last(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress(attempt=1, gate_metric="zeta")
    for step in range(3 * metrics.MOST):  # a name with the step in it
        progress.merge({"step": step, "metrics": {f"{step} {'ü' * 999}": 1.0, "grad_norm": float("nan")}})
    progress.merge({"metrics": {"zeta": 0.5, "loss": 0.25}})
    told = list(read(progress).metrics)
    assert told[:2] == ["zeta", "loss"] and len(told) == metrics.MOST_TOLD
    assert len(json.dumps(progress.snapshot())) < MAX_BYTES
    assert progress.render().count("modelyard_training_metric{") == metrics.MOST + 2
    assert capfd.readouterr().err.count("left out") == 1


def test_the_estimate_after_a_resume_counts_only_steps_done_since() -> None:
    clock = Clock()
    progress = Progress(0, clock)
    progress.merge({"maxSteps": 1000, "resumedFrom": 900})
    for step in range(901, 911):
        clock.now += 2.0
        progress.merge({"step": step})
    assert read(progress).seconds_left == 2.0 * 90


def test_the_estimate_follows_the_recent_pace_and_a_restart_begins_anew() -> None:
    clock = Clock()
    progress = Progress(0, clock)
    for step, seconds in enumerate([1.0] * 200 + [3.0] * 200, start=1):
        clock.now += seconds
        progress.merge({"step": step, "maxSteps": 500, "pid": 7})
    assert read(progress).step_seconds == 3.0
    clock.now += 500.0
    for step, seconds in ((380, 1.0), (381, 30.0), (382, 1.0)):  # a new process' first step holds its warm-up
        clock.now += seconds
        progress.merge({"step": step, "pid": 8})
    assert read(progress).seconds_left == 118.0


def test_without_two_steps_the_reported_pace_is_used() -> None:
    progress = Progress(0)
    progress.merge({"step": 1, "maxSteps": 11, "stepSeconds": 0.5})
    assert read(progress).seconds_left == 5.0


# What transformers 5.23's KubeflowCallback sends: at the start, at a step, at the end.
BEGIN = {"trainerStatus": {"lastUpdatedTime": "2026-11-24T06:00:00+00:00", "progressPercentage": 0,
                           "metrics": [{"name": "total_steps", "value": "40"}]}}  # fmt: skip
STEP = {"trainerStatus": {"lastUpdatedTime": "2026-11-24T06:00:05+00:00", "progressPercentage": 25,
                          "estimatedRemainingSeconds": 15,
                          "metrics": [{"name": "loss", "value": "0.5"}, {"name": "epoch", "value": "0.2512"},
                                      {"name": "current_step", "value": "10"},
                                      {"name": "total_steps", "value": "40"},
                                      {"name": "current_epoch", "value": "0.25"}]}}  # fmt: skip
END = {"trainerStatus": {"lastUpdatedTime": "2026-11-24T06:00:20+00:00", "progressPercentage": 100,
                         "estimatedRemainingSeconds": 0,
                         "metrics": [{"name": "train_samples_per_second", "value": "31.5"}]}}  # fmt: skip


def test_the_kubeflow_protocol_is_understood() -> None:
    progress = Progress(0)
    for body in (BEGIN, STEP, END):
        progress.merge(kubeflow.translate(body))
    report = read(progress)
    assert (report.state, report.step, report.max_steps) == ("training", 10, 40)
    assert (report.epoch, report.samples_per_second, report.metrics["loss"]) == (0.2512, 31.5, 0.5)


@pytest.mark.parametrize(("well", "step"), [(True, 40), (False, 10)])
def test_a_complete_training_that_ended_well_did_its_last_step(well: bool, step: int) -> None:
    progress = Progress(0)
    for body in (BEGIN, STEP, END):
        progress.merge(kubeflow.translate(body))
    progress.finish(well)
    assert (read(progress).state, read(progress).step) == ("done", step)


def test_odd_kubeflow_bodies_are_harmless() -> None:
    for body in ({}, {"trainerStatus": 3}, {"trainerStatus": {"metrics": [{"name": "x", "value": "y"}, 4]}}):
        assert "step" not in kubeflow.translate(body)


def test_a_users_process_finds_the_endpoint_in_its_environment(make_pod: MakePod) -> None:
    pod = make_pod().start(
        """
import urllib.request
token = Path(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read_text().strip()
assert os.environ["KUBEFLOW_TRAINER_SERVER_CA_CERT"] == ""
sent = {"current_step": "3", "loss": "0.7", "eval_loss": "0.5"}
body = {"trainerStatus": {"metrics": [{"name": name, "value": value} for name, value in sent.items()]}}
request = urllib.request.Request(os.environ["KUBEFLOW_TRAINER_SERVER_URL"], json.dumps(body).encode(),
                                 {"Authorization": "Bearer " + token, "Content-Type": "application/json"})
assert urllib.request.urlopen(request, timeout=5).status == 200
wait_for((runtime / "go").exists)
""",
        user_command=("python3", "train.py"),
    )
    wait_until(lambda: pod.progress().step == 3, "the report")
    assert pod.post(kubeflow.PATH, STEP, Authorization="Bearer wrong")[0] == 401
    assert pod.progress().step == 3
    (pod.runtime / "go").touch()
    assert pod.wait() == 0
    assert pod.result().metrics == {"loss": 0.7, "eval_loss": 0.5}


def test_the_endpoints_answer_and_refuse_nonsense(make_pod: MakePod) -> None:
    pod = make_pod(attempt=3).start("time.sleep(600)")
    assert pod.get("/healthz") == (200, b"ok")
    assert pod.get("/nothing")[0] == 404
    assert pod.post("/v1/report", b"[]")[0] == 400
    assert pod.post("/v1/report", b"{")[0] == 400
    assert pod.post("/v1/report", {"step": 2, "maxSteps": 4})[0] == 200
    text = pod.get("/metrics")[1].decode()
    assert "modelyard_training_step 2\n" in text and "modelyard_training_attempt 3\n" in text
    connection = http.client.HTTPConnection("127.0.0.1", pod.port, timeout=30)
    connection.putrequest("POST", "/v1/report")
    connection.putheader("Content-Length", str(1 << 30))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
