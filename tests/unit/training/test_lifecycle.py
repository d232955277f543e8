"""Whole lives of TrainingJobs, pass by pass. Each status on the way keeps kstatus' rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import TrainingJobBuilder
from tests.crds.admission import refusals
from tests.kstatus import compute_status
from tests.unit.training.simulation import Simulation


def train_result(outcome: str, step: int = 40, **fields: Any) -> dict[str, Any]:
    return {"stage": "train", "outcome": outcome, "attempt": 1, "step": step, "maxSteps": 100, **fields}


def checkpoint(step: int) -> dict[str, Any]:
    return {"step": step, "path": f"runs/x/a1/checkpoint-{step}", "time": 1_767_225_600.0}


def success(**fields: Any) -> dict[str, Any]:
    return train_result(
        "succeeded", 100, metrics={"eval_loss": 0.3}, testMetrics={"eval_loss": 0.31},
        model={"path": "runs/x/model", "digest": "sha256-model"}, lastCheckpoint=checkpoint(100), **fields,
    )  # fmt: skip


def report(step: int, state: str = "training", **fields: Any) -> dict[str, Any]:
    return {"attempt": 0, "state": state, "step": step, "maxSteps": 100, "updated": 1_767_225_600.0, **fields}


def train(nodes: int = 2, **spec: Any) -> Simulation:
    """A job whose first attempt runs."""
    builder = TrainingJobBuilder().nodes(nodes)
    for path, value in spec.items():
        builder.spec(path.replace("__", "."), value)
    simulation = Simulation(builder).prepare()
    simulation.run("sentiment-train-1", nodes).settle()
    return simulation


def test_the_first_pass_creates_only_what_preparing_needs() -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    assert [w.split("/")[0] for w in simulation.writes] == [
        "create PersistentVolumeClaim", "create Job"
    ]  # fmt: skip
    assert simulation.jobs() == ["sentiment-prepare-1"]
    assert simulation.condition("Ready") == ("False", "Progressing")
    assert simulation.status["phase"] == "Preparing"


def test_a_job_goes_from_data_to_model() -> None:
    simulation = train()
    assert simulation.status["phase"] == "Starting"
    assert simulation.condition("PodsReady") == ("True", "Running")
    assert simulation.status["nodes"] == {"desired": 2, "ready": 2}
    assert [p.name for p in simulation.plan.probes] == ["train-1"]

    simulation.facts["train-1"] = report(
        30, secondsLeft=70.0, metrics={"loss": 0.5}, lastCheckpoint=checkpoint(20)
    )
    simulation.settle()
    assert simulation.status["phase"] == "Training"
    assert simulation.condition("CheckpointSafe") == ("True", "Verified")
    assert simulation.status["progress"]["percent"] == 30
    assert simulation.status["progress"]["estimatedCompletionTime"] == "2026-01-01T00:01:10Z"

    simulation.facts["train-1"] = report(100, "evaluating")
    simulation.settle()
    assert simulation.status["phase"] == "Evaluating"

    simulation.finish_attempt(
        "sentiment-train-1", 0, "Complete", [success(), train_result("succeeded", node=1)]
    )
    assert simulation.status["phase"] == "Succeeded"
    assert compute_status(simulation.job) == "Current"
    assert simulation.status["model"]["uri"] == "pvc://sentiment-storage/runs/x/model"
    assert simulation.status["model"]["evaluation"]["test"] == {"eval_loss": 0.31}
    assert simulation.status["attempts"][0]["cause"] == "Finished"
    assert simulation.status["activeSeconds"] == 60
    assert simulation.events == ["DataReady", "AttemptStarted", "Succeeded"]


def test_what_preparing_found_suspicious_stands_in_the_status_and_is_told_once() -> None:
    found = [
        {"reason": "LeakedTexts", "count": 12, "message": "m" * 3000},
        {"reason": "NewHead", "message": "The head is new."},
        *({"reason": "W" * 900, "count": 10**30} for _ in range(40)),
    ]
    simulation = Simulation(TrainingJobBuilder()).prepare(warnings=found)
    told = simulation.status["data"]["warnings"]
    assert [w["reason"] for w in told[:2]] == ["LeakedTexts", "NewHead"] and told[0]["count"] == 12
    assert len(told) == 32 and len(told[0]["message"]) == 1024 and "count" not in told[1]
    assert refusals(simulation.job) == []
    simulation.settle()
    assert simulation.events.count("DataWarnings") == 1


def test_data_without_warnings_are_ready_without_a_word() -> None:
    simulation = Simulation(TrainingJobBuilder()).prepare()
    assert "DataReady" in simulation.events and "DataWarnings" not in simulation.events


def test_a_settled_job_asks_for_nothing_and_its_status_holds_still() -> None:
    simulation = train()
    simulation.facts["train-1"] = report(30, secondsLeft=70.0)
    simulation.settle()
    writes, status = len(simulation.writes), simulation.status
    simulation.advance(3)
    simulation.step()
    assert len(simulation.writes) == writes
    assert simulation.status == status


def test_a_finished_job_is_never_begun_again_when_its_children_are_deleted() -> None:
    simulation = train()
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    simulation.objects.clear()
    simulation.job["metadata"]["generation"] = 2
    simulation.settle()
    assert simulation.objects == {}
    assert simulation.status["phase"] == "Succeeded"
    assert simulation.status["observedGeneration"] == 2


def test_the_last_attempts_job_stays_for_its_logs() -> None:
    simulation = train()
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    simulation.settle()
    assert "sentiment-train-1" in simulation.jobs()


def test_the_time_to_live_counts_from_the_end() -> None:
    simulation = train(ttlSecondsAfterFinished=30)
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    simulation.advance(10).settle()
    assert simulation.plan.requeue_after == 20
    assert not simulation.deleted
    simulation.advance(20).step()
    assert simulation.deleted


def test_a_missed_gate_ends_the_job_and_keeps_the_model() -> None:
    simulation = train(gate={"metric": "eval_loss", "max": 0.2})
    missed = {"metric": "eval_loss", "value": 0.3, "threshold": 0.2, "passed": False}
    result = {**success(gate=missed), "outcome": "gateFailed"}
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [result] * 2)
    assert simulation.condition("Stalled") == ("True", "GateFailed")
    assert simulation.condition("GatePassed") == ("False", "GateFailed")
    assert simulation.status["model"]["digest"] == "sha256-model"
    assert compute_status(simulation.job) == "Failed"
    assert simulation.status["phase"] == "Failed"


@pytest.mark.parametrize(
    ("value", "threshold", "words"),
    [
        (0.3, 0.2, "eval_loss of 0.3 (bound 0.2)"),
        (float("nan"), 0.2, "eval_loss of no number (bound 0.2)"),
        # JSON as Python writes it has such numbers.
        (0.3, float("inf"), "eval_loss of 0.3. The model is kept"),
    ],
)
def test_a_missed_gate_is_told_with_the_numbers_that_there_are(
    value: float, threshold: float, words: str
) -> None:
    simulation = train(gate={"metric": "eval_loss", "max": 0.2})
    missed = {"metric": "eval_loss", "value": value, "threshold": threshold, "passed": False}
    result = {**success(gate=missed), "outcome": "gateFailed"}
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [result] * 2)
    assert words in simulation.message()


@pytest.mark.parametrize(("loss", "ready"), [(0.3, "True"), (0.6, "False"), (None, "False")])
def test_the_gate_of_a_users_own_program_is_judged_by_its_metrics(loss: float | None, ready: str) -> None:
    simulation = Simulation(TrainingJobBuilder().command("python", "train.py").gate(0.5))
    simulation.step()
    simulation.run("sentiment-train-1", 1).settle()
    metrics = {} if loss is None else {"eval_loss": loss}
    simulation.finish_attempt(
        "sentiment-train-1", 0, "Complete", [train_result("succeeded", metrics=metrics)]
    )
    assert simulation.condition("Ready")[0] == ready


def test_a_lost_result_is_read_back_from_storage() -> None:
    simulation = train()
    simulation.vanish("sentiment-train-1").end("sentiment-train-1", "Complete")
    simulation.settle()
    assert "sentiment-collect-1" in simulation.jobs()
    simulation.put(simulation.pod("sentiment-collect-1").ended(0, success())).end(
        "sentiment-collect-1", "Complete"
    )
    simulation.settle()
    assert simulation.status["phase"] == "Succeeded"


def test_a_result_that_is_nowhere_leads_to_another_attempt() -> None:
    simulation = train()
    simulation.vanish("sentiment-train-1").end("sentiment-train-1", "Complete")
    simulation.settle()
    simulation.put(simulation.pod("sentiment-collect-1").ended(75)).end("sentiment-collect-1", "Failed")
    simulation.settle()
    simulation.advance(6).settle()
    assert simulation.status["attempts"][0]["failure"]["reason"] == "ResultLost"
    simulation.advance(11).settle()
    assert "sentiment-train-2" in simulation.jobs()


def test_a_jobs_end_that_is_seen_before_its_pods_end_waits_for_their_words() -> None:
    simulation = train()
    simulation.end("sentiment-train-1", "Complete").settle()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-train-1"]
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    assert simulation.status["phase"] == "Succeeded"


def test_a_deleted_pod_makes_the_attempt_preempted_and_the_next_one_goes_on_at_once() -> None:
    simulation = train()
    simulation.facts["train-1"] = report(38)
    simulation.settle()
    simulation.vanish("sentiment-train-1")
    stopped = train_result("preempted", 40, node=1, lastCheckpoint=checkpoint(40), lostSteps=0)
    simulation.put(simulation.pod("sentiment-train-1", 1).ended(143, stopped)).end(
        "sentiment-train-1", "Failed"
    )
    simulation.step()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-train-1"], "not before the end is recorded"
    assert simulation.plan.requeue_after is not None
    attempt = simulation.status["attempts"][0]
    assert (attempt["cause"], attempt["toStep"], attempt["lostSteps"]) == ("Preempted", 40, 0)
    assert simulation.status["counters"]["preemptions"] == 1
    simulation.advance(1).settle()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-train-2"]
    assert simulation.status["phase"] == "Recovering"
    assert simulation.status["attempts"][1]["fromStep"] == 40


def test_deleted_pods_that_are_gone_already_have_told_why_they_ended() -> None:
    simulation = train()
    stopped = [
        train_result("preempted", 40, node=node, lastCheckpoint=checkpoint(40), lostSteps=0)
        for node in (0, 1)
    ]
    pods = [simulation.pod("sentiment-train-1", node).ended(143, stopped[node]) for node in (0, 1)]
    simulation.depart(*pods).end("sentiment-train-1", "Failed").step()
    attempt = simulation.status["attempts"][0]
    assert (attempt["cause"], attempt["toStep"], attempt["lostSteps"]) == ("Preempted", 40, 0)
    assert simulation.status["checkpoints"]["last"]["step"] == 40
    simulation.advance(1).settle()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-train-2"], "and nothing to wait for"


def test_pods_that_went_without_a_word_tell_nothing() -> None:
    simulation = train()
    pods = [simulation.pod("sentiment-train-1", node).running(simulation.time) for node in (0, 1)]
    simulation.depart(*pods).end("sentiment-train-1", "Failed").step()
    attempt = simulation.status["attempts"][0]
    assert (attempt["cause"], attempt["failure"]["reason"]) == ("Infrastructure", "PodsVanished")


def test_a_departed_pods_word_ends_with_the_pod_that_takes_its_place() -> None:
    simulation = train()
    crash = train_result(
        "failed", 20, node=0, failure={"reason": "UserCodeError", "message": "ValueError: x"}
    )
    simulation.depart(simulation.pod("sentiment-train-1", 0).ended(1, crash, end=simulation.time))
    simulation.advance(60)
    stopped = [train_result("preempted", 40, node=node, lastCheckpoint=checkpoint(40)) for node in (0, 1)]
    simulation.finish_attempt("sentiment-train-1", 143, "Failed", stopped)
    assert simulation.status["attempts"][0]["cause"] == "Preempted"


def test_an_operator_that_dies_between_two_writes_doubles_nothing() -> None:
    simulation = train()
    simulation.finish_attempt("sentiment-train-1", 1, "Failed", [train_result("failed")] * 2)
    simulation.advance(11)
    plan = simulation.decide()
    simulation._apply(plan)  # the status was not written
    simulation.settle()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-train-2"]
    assert [a["index"] for a in simulation.status["attempts"]] == [1, 2]
    assert simulation.status["counters"]["userFailures"] == 1


def test_failures_of_the_code_wait_longer_each_time_and_end_at_the_limit() -> None:
    simulation = train(nodes=1, failurePolicy__maxRestarts=2)
    for attempt, wait in ((1, 10), (2, 20)):
        simulation.finish_attempt(f"sentiment-train-{attempt}", 1, "Failed", [train_result("failed", 0)])
        assert simulation.condition("Reconciling") == ("True", "ProgressingWithRetry")
        simulation.advance(wait - 1).settle()
        assert f"sentiment-train-{attempt + 1}" not in simulation.jobs()
        simulation.advance(1).settle()
        simulation.run(f"sentiment-train-{attempt + 1}", 1).settle()
    simulation.finish_attempt("sentiment-train-3", 1, "Failed", [train_result("failed", 0)])
    assert simulation.condition("Stalled") == ("True", "NoProgress")
    simulation.advance(1000).settle()
    assert "sentiment-train-4" not in simulation.jobs()


def test_an_error_that_repeats_ends_the_job_before_the_limit_with_its_own_reason() -> None:
    simulation = train(nodes=1, failurePolicy__maxRestarts=10)
    for attempt in (1, 2):
        words = {
            "reason": "UserCodeError",
            "message": f"rank 0 ended with exit code 1: {attempt}: IndexError",
        }
        result = train_result("failed", 12, lostSteps=2, resumedFrom=10, failure=words)
        simulation.finish_attempt(f"sentiment-train-{attempt}", 1, "Failed", [result])
        simulation.advance(20).settle()
        if attempt == 1:
            simulation.run("sentiment-train-2", 1).settle()
    assert simulation.condition("Stalled") == ("True", "UserCodeError")
    assert "at step 12" in simulation.message("Stalled")
    assert "IndexError" in simulation.message("Stalled")
    assert "sentiment-train-3" not in simulation.jobs()


def test_progress_between_failures_resets_the_wait() -> None:
    simulation = train(nodes=1, failurePolicy__maxRestarts=5)
    for attempt, step in ((1, 0), (2, 50)):
        result = train_result("failed", step, lostSteps=0, resumedFrom=0)
        simulation.finish_attempt(f"sentiment-train-{attempt}", 1, "Failed", [result])
        simulation.advance(10).settle()
        assert f"sentiment-train-{attempt + 1}" in simulation.jobs()
        simulation.run(f"sentiment-train-{attempt + 1}", 1).settle()


def test_the_infrastructures_failures_do_not_count_as_the_codes() -> None:
    simulation = train(failurePolicy__maxRestarts=0)
    pods = [simulation.pod("sentiment-train-1", i) for i in range(2)]
    pods[0].evicted()
    pods[1].ended(1, train_result("failed"))
    simulation.put(*pods).end("sentiment-train-1", "Failed").step()
    assert simulation.status["counters"]["infraFailures"] == 1
    assert simulation.status["attempts"][0]["failure"]["node"] == "node-0"
    simulation.advance(11).settle()
    assert "sentiment-train-2" in simulation.jobs()


@pytest.mark.parametrize(
    ("code", "reason", "message", "expected"),
    [
        (137, "OOMKilled", None, "HostOutOfMemory"),
        (1, None, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "CUDAOutOfMemory"),
        (
            2,
            None,
            train_result("failed", failure={"reason": "ImportFailed", "message": "no module x"}),
            "ImportFailed",
        ),
    ],
)
def test_failures_that_no_retry_cures_end_the_job(
    code: int, reason: str | None, message: Any, expected: str
) -> None:
    simulation = train(nodes=1)
    pod = simulation.pod("sentiment-train-1").ended(code, message, reason=reason)
    simulation.put(pod).end("sentiment-train-1", "Failed").step()
    assert simulation.condition("Stalled") == ("True", expected)
    assert simulation.condition("Succeeded") == ("False", expected)
    assert simulation.status["attempts"][0]["cause"] == "UserError"


def test_a_job_deleted_by_hand_is_followed_by_the_next_attempt() -> None:
    simulation = train()
    simulation.remove("Job/sentiment-train-1")
    simulation.step()
    assert simulation.status["attempts"][0]["failure"]["reason"] == "JobDeleted"
    simulation.advance(11).settle()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-train-2"]


def test_suspending_stops_the_pods_and_resuming_goes_on_with_the_next_attempt() -> None:
    simulation = train()
    simulation.job["spec"]["suspend"] = True
    simulation.job["metadata"]["generation"] = 2
    simulation.settle()
    assert simulation.named("sentiment-train-1")["spec"]["suspend"] is True
    assert simulation.condition("Suspended") == ("False", "Stopping")
    assert simulation.condition("Reconciling")[0] == "True"
    simulation.vanish("sentiment-train-1").named("sentiment-train-1")["status"] = {"active": 0}
    simulation.settle()
    assert simulation.condition("Suspended") == ("True", "Suspended")
    assert simulation.status["attempts"][0]["cause"] == "Suspended"
    assert simulation.jobs() == ["sentiment-prepare-1"]
    assert "PersistentVolumeClaim/sentiment-storage" in simulation.objects
    simulation.advance(1000).settle()
    assert simulation.status["phase"] == "Suspended"
    simulation.job["spec"]["suspend"] = False
    simulation.job["metadata"]["generation"] = 3
    simulation.settle()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-train-2"]
    assert simulation.condition("Suspended") == ("False", "Resumed")


def test_a_job_that_is_created_suspended_creates_nothing() -> None:
    simulation = Simulation(TrainingJobBuilder().spec("suspend", True))
    simulation.settle()
    assert simulation.objects == {}
    assert simulation.condition("Suspended") == ("True", "Suspended")
    simulation.job["spec"]["suspend"] = False
    simulation.settle()
    assert simulation.jobs() == ["sentiment-prepare-1"]


def test_suspending_while_preparing_begins_anew_afterwards() -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    simulation.run("sentiment-prepare-1", 1).settle()
    simulation.job["spec"]["suspend"] = True
    simulation.settle()
    assert simulation.named("sentiment-prepare-1")["spec"]["suspend"] is True
    simulation.vanish("sentiment-prepare-1").named("sentiment-prepare-1")["status"] = {"active": 0}
    simulation.settle()
    assert simulation.jobs() == []
    assert simulation.status["phase"] == "Suspended"
    simulation.job["spec"]["suspend"] = False
    simulation.settle()
    assert simulation.jobs() == ["sentiment-prepare-2"]


def test_the_deadline_counts_active_time_and_saves_before_it_ends_the_job() -> None:
    simulation = train(activeDeadlineSeconds=100)
    assert simulation.plan.requeue_after == pytest.approx(101)
    simulation.advance(101).settle()
    assert simulation.named("sentiment-train-1")["spec"]["suspend"] is True
    assert simulation.status["phase"] != "Failed"
    stopped = [train_result("preempted", 40, lastCheckpoint=checkpoint(40))] * 2
    pods = [
        simulation.pod("sentiment-train-1", i).ended(143, r, end=simulation.time)
        for i, r in enumerate(stopped)
    ]
    simulation.put(*pods).named("sentiment-train-1")["status"] = {"active": 0}
    simulation.settle()
    assert simulation.condition("Stalled") == ("True", "DeadlineExceeded")
    assert simulation.status["attempts"][0]["cause"] == "DeadlineExceeded"
    assert simulation.status["checkpoints"]["last"]["step"] == 40


def test_time_between_attempts_does_not_count_towards_the_deadline() -> None:
    simulation = train(nodes=1, activeDeadlineSeconds=100)
    simulation.finish_attempt("sentiment-train-1", 75, "Failed", [train_result("failed")])
    assert simulation.status["activeSeconds"] == 60
    simulation.advance(5000).settle()
    simulation.run("sentiment-train-2", 1).settle()
    simulation.advance(30).settle()
    assert "suspend" not in simulation.named("sentiment-train-2")["spec"]
    simulation.advance(11).settle()
    assert simulation.named("sentiment-train-2")["spec"]["suspend"] is True


def test_data_that_can_not_be_prepared_ends_the_job() -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    failure = {
        "reason": "ColumnNotFound",
        "message": "column 'body' is not in tweets.csv; use one of text, label",
    }
    result = {"stage": "prepare", "outcome": "failed", "failure": failure}
    simulation.put(simulation.pod("sentiment-prepare-1").ended(2, result)).end(
        "sentiment-prepare-1", "Failed"
    ).step()
    assert simulation.condition("DataReady") == ("False", "ColumnNotFound")
    assert simulation.condition("Stalled") == ("True", "ColumnNotFound")
    assert "text, label" in simulation.message()


def test_an_interrupted_preparation_is_tried_again() -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    simulation.put(simulation.pod("sentiment-prepare-1").evicted()).end(
        "sentiment-prepare-1", "Failed"
    ).settle()
    assert simulation.jobs() == ["sentiment-prepare-1"]
    assert simulation.status["counters"]["infraFailures"] == 1
    simulation.advance(10).settle()
    assert simulation.jobs() == ["sentiment-prepare-1", "sentiment-prepare-2"]
    assert simulation.status["prepareAttempt"] == 2
    assert simulation.status["counters"]["infraFailures"] == 1


def test_a_source_that_can_not_be_reached_is_named_until_it_can() -> None:
    simulation = Simulation(TrainingJobBuilder())
    simulation.step()
    failure = {"reason": "SourceUnreachable", "message": "rows: the server does not answer; check it."}
    result = {"stage": "prepare", "outcome": "failed", "failure": failure}
    simulation.put(simulation.pod("sentiment-prepare-1").ended(75, result))
    simulation.end("sentiment-prepare-1", "Failed").settle()
    assert simulation.condition("DataReady") == ("False", "SourceUnreachable")
    assert simulation.condition("Reconciling") == ("True", "ProgressingWithRetry")
    simulation.advance(10).settle()
    simulation.run("sentiment-prepare-2", 1).settle()
    assert simulation.condition("DataReady") == ("False", "SourceUnreachable")
    assert "does not answer" in simulation.message("DataReady")
    assert simulation.condition("Stalled")[0] != "True"


def test_a_wrong_spec_is_refused_before_anything_exists_and_cured_by_a_right_one() -> None:
    simulation = Simulation(TrainingJobBuilder().argument("learning_rat", 1))
    simulation.settle()
    assert simulation.objects == {}
    assert simulation.condition("Stalled") == ("True", "UnknownArgument")
    simulation.job["spec"]["training"]["args"] = {}
    simulation.job["metadata"]["generation"] = 2
    simulation.settle()
    assert simulation.jobs() == ["sentiment-prepare-1"]


def test_a_key_renamed_after_the_start_makes_no_other_pods_until_it_is_put_back() -> None:
    simulation = Simulation(TrainingJobBuilder().argument("adam_beta1", 0.5).nodes(2)).prepare()
    simulation.job["spec"]["training"]["args"] = {"max_grad_norm": 0.5}
    simulation.job["metadata"]["generation"] = 2
    simulation.settle()
    assert simulation.condition("Stalled")[0] == "absent", "what runs is not touched"
    stopped = [train_result("preempted", 40, node=node, lastCheckpoint=checkpoint(40)) for node in (0, 1)]
    simulation.finish_attempt("sentiment-train-1", 143, "Failed", stopped)
    simulation.advance(60).settle()
    assert simulation.condition("Stalled") == ("True", "InvalidSpec")
    assert "training" in simulation.message("Stalled")
    assert "sentiment-train-2" not in simulation.jobs()
    simulation.job["spec"]["training"]["args"] = {"adam_beta1": 0.5}
    simulation.settle()
    assert "sentiment-train-2" in simulation.jobs()


def test_a_profile_that_disappears_does_not_disturb_a_running_attempt() -> None:
    simulation = train()
    simulation.settings = type(simulation.settings)(profiles={})
    simulation.settle()
    assert simulation.condition("PodsReady") == ("True", "Running")
    assert "sentiment-train-1" in simulation.jobs()
