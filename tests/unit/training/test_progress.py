"""Numbers of the status are for people; what decides is not rounded."""

from __future__ import annotations

from modelyard.api.trainingjob import Gate
from modelyard.contract.report import GateReport, ProgressReport, TrainResult
from modelyard.training.status.progress import build_gate, build_progress, finish_progress


def test_metrics_are_shown_in_six_digits_and_speeds_in_four() -> None:
    report = ProgressReport(
        step=20, max_steps=60, metrics={"loss": 0.35601097345352173}, samples_per_second=74.8572664043637
    )
    shown = build_progress(report, None)
    assert shown.metrics == {"loss": 0.356011}
    assert shown.samples_per_second == 74.86
    assert shown.percent == 33


def test_numbers_that_are_none_are_left_out() -> None:
    shown = build_progress(ProgressReport(metrics={"loss": float("nan"), "grad_norm": 1.0}), None)
    assert shown.metrics == {"grad_norm": 1.0}


def test_the_gates_metric_comes_before_those_that_the_status_may_have_no_room_for() -> None:
    told = {**{f"a{number}": 0.0 for number in range(50)}, "eval_quality": 0.5}
    gate = Gate(metric="eval_quality", min=0.4)
    shown = build_progress(ProgressReport(metrics=told), gate)
    ended = finish_progress(shown, TrainResult(outcome="succeeded", attempt=1, metrics=told), gate)
    assert next(iter(shown.metrics)) == next(iter(ended.metrics)) == "eval_quality"


def test_the_gates_value_is_what_was_compared() -> None:
    seen = GateReport(metric="eval_loss", value=0.35000000012, threshold=0.35, passed=False)
    gate = build_gate(TrainResult(outcome="gateFailed", attempt=1, gate=seen), None)
    assert gate is not None
    assert gate.value == 0.35000000012
