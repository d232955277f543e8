"""What `modelyard status` and `modelyard watch` show of a TrainingJob, and how they end."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from modelyard.cli import watch
from modelyard.cli.errors import CommandError, NotFoundError
from modelyard.cli.text import format_duration
from modelyard.cli.trainingjob.view import look

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Terminal(io.StringIO):
    """A TTY."""

    def isatty(self) -> bool:
        return True


class Script:
    """Answers of the cluster, one after the other."""

    def __init__(self, *answers: dict[str, Any] | CommandError) -> None:
        self._answers = list(answers)

    def __call__(self) -> dict[str, Any]:
        answer = self._answers.pop(0)
        if isinstance(answer, CommandError):
            raise answer
        return answer


def condition(kind: str, status: str, reason: str, message: str = "A sentence.") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def job(phase: str, *conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "sentiment"},
        "status": {"phase": phase, "conditions": list(conditions), **status},
    }


def training(step: int) -> dict[str, Any]:
    progress = {
        "step": step,
        "maxSteps": 100,
        "stepSeconds": 0.5,
        "metrics": {"loss": 0.25, "grad_norm": 3},
        "estimatedCompletionTime": "2026-01-01T00:01:30Z",
    }
    return job(
        "Training",
        condition("Ready", "False", "Progressing"),
        progress=progress,
        nodes={"desired": 2, "ready": 2},
    )


SUCCEEDED = job(
    "Succeeded",
    condition("Ready", "True", "Succeeded"),
    condition("Succeeded", "True", "Succeeded"),
    model={
        "uri": "pvc://c/model",
        "evaluation": {"validation": {"eval_loss": 0.5}},
        "baseline": {"validation": {"eval_loss": 0.7}},
    },
    gate={"metric": "eval_loss", "value": 0.5, "threshold": 0.6, "passed": True},
)
FAILED = job(
    "Failed",
    condition("Ready", "False", "HostOutOfMemory", "Raise the limit."),
    condition("Stalled", "True", "HostOutOfMemory", "Raise the limit."),
    condition("PodsReady", "False", "HostOutOfMemory", "Raise the limit."),
    attempts=[{"index": 1, "failure": {"reason": "HostOutOfMemory", "pod": "p-0", "excerpt": "Killed"}}],
)


def follow(out: io.StringIO, *answers: dict[str, Any] | CommandError) -> int:
    return watch.run(
        Script(*answers), look, "sentiment", out, 1.0, sleep=lambda seconds: None, clock=lambda: NOW
    )


def test_a_running_job_shows_its_steps_speed_loss_and_time_left() -> None:
    lines = look(training(40), NOW).lines
    assert lines[0] == "sentiment  Training  2/2 pods"
    assert lines[1] == "  " + "█" * 12 + "░" * 18 + "  step 40/100  40%  0.50 s/step  1 min 30 s left"
    assert lines[2] == "  loss 0.25"
    assert len(lines) == 3, "a job that works has nothing to explain"


def test_a_waiting_job_says_why_once() -> None:
    why = "PersistentVolumeClaim 'inputs' does not exist in this namespace."
    waiting = job(
        "Preparing",
        condition("DataReady", "False", "ClaimNotFound", why),
        condition("Ready", "False", "ClaimNotFound", why),
        condition("Reconciling", "True", "ClaimNotFound", why),
        condition("GatePassed", "Unknown", "NotEvaluated"),
    )
    assert look(waiting, NOW).lines[1:] == [f"  Ready: ClaimNotFound: {why}"]


def test_a_job_with_prices_says_what_it_costs_and_will_have_cost() -> None:
    running = training(40)
    running["status"]["cost"] = {"hours": {"cpu": 8}, "currency": "EUR", "amount": 1.5, "forecast": 3.25}
    assert look(running, NOW).lines[-1] == "  cost: 1.50 EUR (at its end 3.25)"
    running["status"]["cost"] = {"hours": {"cpu": 8}, "currency": "EUR", "amount": 3.4}
    assert look(running, NOW).lines[-1] == "  cost: 3.40 EUR"
    running["status"]["cost"] = {"hours": {"cpu": 8}}
    assert len(look(running, NOW).lines) == 3, "hours alone are for kubectl"


def test_a_job_says_how_much_of_its_time_was_productive() -> None:
    running = training(40)
    running["status"]["goodput"] = {"ratio": 0.9375, "seconds": {"productive": 15.0, "saving": 1.0}}
    assert look(running, NOW).lines[-1] == "  goodput: 94 %"


def test_a_job_without_a_status_is_pending() -> None:
    assert look({"metadata": {"name": "new"}}, NOW).lines == ["new  Pending"]


def test_watching_ends_with_success_and_the_models_place() -> None:
    out = io.StringIO()
    assert follow(out, training(40), SUCCEEDED) == 0
    text = out.getvalue()
    assert "model  pvc://c/model" in text
    assert "before (validation)  eval_loss 0.7" in text
    assert "eval_loss 0.5, bound 0.6: passed" in text


def test_watching_ends_with_failure_and_the_last_words() -> None:
    out = io.StringIO()
    assert follow(out, FAILED) == 1
    assert "Ready: HostOutOfMemory: Raise the limit." in out.getvalue()
    assert "    Killed" in out.getvalue()


def test_a_log_gets_a_line_for_each_change_only() -> None:
    out = io.StringIO()
    follow(out, training(40), training(40), training(41), SUCCEEDED)
    changes = [line for line in out.getvalue().splitlines() if line.startswith("00:00:00")]
    assert ["step 40" in changes[0], "step 41" in changes[1], "Succeeded" in changes[2]] == [True] * 3
    assert len(changes) == 3


WARNED = job(
    "Training",
    condition("Ready", "False", "Progressing"),
    data={
        "rowsIn": 9,
        "rowsOut": 8,
        "warnings": [
            {"reason": "LeakedTexts", "count": 12, "message": "Add deduplicate."},
            {"reason": "NewHead", "message": "The head is new."},
            {"reason": "ConstantColumn", "count": 1},
        ],
    },
)


def test_warnings_are_shown_with_count_and_what_to_do() -> None:
    assert look(WARNED, NOW).lines[1:] == [
        "  data: 8 of 9 rows",
        "  warning: LeakedTexts (12): Add deduplicate.",
        "  warning: NewHead: The head is new.",
        "  warning: ConstantColumn (1)",
    ]


def test_a_log_tells_each_warning_once() -> None:
    out = io.StringIO()
    later = {**WARNED, "status": {**WARNED["status"], "progress": {"step": 1, "maxSteps": 9}}}
    follow(out, WARNED, later, SUCCEEDED)
    assert out.getvalue().count("  warning: LeakedTexts (12): Add deduplicate.\n") == 1


def test_a_job_that_was_corrected_is_not_stuck_by_the_words_on_what_it_was() -> None:
    corrected = {**FAILED, "metadata": {"name": "sentiment", "generation": 2}}
    corrected["status"] = {**FAILED["status"], "observedGeneration": 1}
    assert follow(io.StringIO(), corrected, SUCCEEDED) == 0


def test_a_terminal_is_painted_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    out = Terminal()
    follow(out, training(40), SUCCEEDED)
    # three lines, of which the second one, with 72 characters, takes two rows
    assert "\x1b[4A\x1b[J" in out.getvalue()


def test_a_cluster_that_is_away_for_a_moment_is_waited_for() -> None:
    assert (
        follow(io.StringIO(), training(1), CommandError("refused"), CommandError("refused"), SUCCEEDED) == 0
    )


def test_a_cluster_that_stays_away_ends_watching() -> None:
    with pytest.raises(CommandError, match="refused"):
        follow(io.StringIO(), training(1), *[CommandError("refused")] * (watch.PATIENCE + 1))


def test_a_job_that_does_not_exist_is_an_error_and_one_that_goes_is_a_failure() -> None:
    with pytest.raises(NotFoundError):
        follow(io.StringIO(), NotFoundError("NotFound"))
    out = io.StringIO()
    assert follow(out, training(1), NotFoundError("NotFound")) == 1
    assert "was deleted" in out.getvalue()


@pytest.mark.parametrize(("answer", "code"), [(training(1), 0), (SUCCEEDED, 0), (FAILED, 1)])
def test_status_prints_once(answer: dict[str, Any], code: int) -> None:
    out = io.StringIO()
    assert watch.show(Script(answer), look, out) == code
    assert out.getvalue().startswith("sentiment  ")


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_told_in_words(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
