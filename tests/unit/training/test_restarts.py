"""Waits and limits."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.api.status import Attempt, Cause, Counters, Failure
from modelyard.api.trainingjob import Backoff, FailurePolicy
from modelyard.training.attempts import restarts
from modelyard.training.attempts.ending import Ending


def attempt(cause: Cause, start: int = 0, end: int = 0, lost: int = 0) -> Attempt:
    return Attempt(index=1, cause=cause, from_step=start, to_step=end, lost_steps=lost)


FRUITLESS, FRUITFUL = attempt("UserError"), attempt("Infrastructure", 0, 10)

WAITS = {
    "the first failure waits for the initial time": ([FRUITLESS], 10),
    "the second one without progress waits twice as long": ([FRUITLESS] * 2, 20),
    "the wait has an upper bound": ([FRUITLESS] * 20, 600),
    "progress resets the wait": ([FRUITLESS] * 3 + [FRUITFUL], 10),
    "a failure after progress waits for the initial time": ([FRUITFUL, FRUITLESS], 10),
    "a preemption that saved progress does not wait": ([attempt("Preempted", 0, 10)], 0),
    "a preemption without progress waits": ([attempt("Preempted", 10, 10)], 10),
    "steps that were lost are no progress": ([FRUITLESS, attempt("Preempted", 10, 30, lost=20)], 20),
    "a suspension resets the wait": ([FRUITLESS] * 3 + [attempt("Suspended"), FRUITLESS], 10),
}


@pytest.mark.parametrize("name", WAITS)
def test_wait(name: str) -> None:
    attempts, seconds = WAITS[name]
    assert restarts.choose_wait(attempts, Backoff()) == seconds


def test_a_longest_wait_below_the_first_one_does_not_shorten_it() -> None:
    assert restarts.doubled(Backoff(initial_seconds=30, max_seconds=5), 3) == 30


FAILURE = Failure(reason="UserCodeError", message="it broke")
ENDS: dict[str, tuple[Cause, bool, Counters, list[Attempt], str | None]] = {
    "a failure within the limit goes on": (
        "UserError",
        False,
        Counters(user_failures=3),
        [FRUITLESS] * 3,
        None,
    ),
    "one beyond it, without progress": (
        "UserError",
        False,
        Counters(user_failures=4),
        [FRUITLESS] * 4,
        "NoProgress",
    ),
    "one beyond it, with progress between": (
        "UserError",
        False,
        Counters(user_failures=4),
        [FRUITFUL, FRUITLESS],
        "RestartLimit",
    ),
    "a fatal one at once": ("UserError", True, Counters(user_failures=1), [FRUITLESS], "UserCodeError"),
    "fifty lost nodes go on": ("Infrastructure", False, Counters(infra_failures=50), [FRUITLESS], None),
    "the next one does not": (
        "Infrastructure",
        False,
        Counters(infra_failures=51),
        [FRUITLESS],
        "RestartLimit",
    ),
    "preemptions have no limit": ("Preempted", False, Counters(preemptions=10_000), [FRUITLESS], None),
}


@pytest.mark.parametrize("name", ENDS)
def test_end(name: str) -> None:
    cause, fatal, counters, attempts, reason = ENDS[name]
    problem = restarts.find_end(Ending(cause, FAILURE, fatal), attempts, counters, FailurePolicy())
    assert (problem.reason if problem else None) == reason


def failed(step: int | None, message: str = "rank 0: ValueError: no", **fields: Any) -> Attempt:
    fields = {"cause": "UserError", "active_seconds": 600, "pod": "p-train-1-0-abcde", **fields}
    failure = Failure(reason=fields.pop("reason", "UserCodeError"), message=message, pod=fields.pop("pod"))
    return Attempt(index=1, to_step=step, failure=failure, **fields)


LOST = attempt("Infrastructure")
TWICE: dict[str, tuple[list[Attempt], bool]] = {
    "the same error at the same step": ([failed(7), failed(7)], True),
    "the same error before the first step": ([failed(0), failed(0)], True),
    "at another step": ([failed(7), failed(8)], False),
    "another error": ([failed(7), failed(7, "rank 0: KeyError: 'a'")], False),
    "another reason": ([failed(7), failed(7, reason="DataInvalid")], False),
    "an address, a pod and a time in it": (
        [
            failed(7, "p-train-1-0-abcde: <Tensor at 0x7f1b> died 12:03:01"),
            failed(7, "p-train-2-0-xyzzy: <Tensor at 0x99aa> died 14:55:17", pod="p-train-2-0-xyzzy"),
        ],
        True,
    ),
    "an error that nobody told": (
        [failed(7, "Pod p-train-1-0-abcde ended with exit code None: kubectl logs p-train-1-0-abcde.")] * 2,
        False,
    ),
    "with a lost node between": ([failed(7), LOST, attempt("Preempted"), failed(7)], True),
    "with a suspension between": ([failed(7), attempt("Suspended"), failed(7)], False),
    "two lost nodes": ([failed(7, cause="Infrastructure")] * 2, False),
    "two preemptions": ([failed(7, cause="Preempted")] * 2, False),
    "a lost node after an error": ([failed(7), LOST], False),
    "after hours without a reported step": ([failed(None), failed(None)], False),
    "at once, of a program that reports no steps": (
        [failed(None, active_seconds=3), failed(None, active_seconds=4)],
        True,
    ),
    "the first failure": ([failed(7)], False),
}


@pytest.mark.parametrize("name", TWICE)
def test_the_same_error_at_the_same_step_is_not_tried_a_third_time(name: str) -> None:
    attempts, ends = TWICE[name]
    failure = attempts[-1].failure
    ending = Ending(attempts[-1].cause or "UserError", failure)
    problem = restarts.find_end(ending, attempts, Counters(user_failures=2), FailurePolicy())
    assert (problem is not None) is ends
    if problem is not None and failure is not None:
        assert problem.reason == failure.reason
        assert "The same error came twice" in problem.message
        assert failure.message in problem.message


def test_without_restarts_the_first_failures_own_reason_stands() -> None:
    policy = FailurePolicy(max_restarts=0)
    problem = restarts.find_end(Ending("UserError", FAILURE), [FRUITLESS], Counters(user_failures=1), policy)
    assert problem is not None
    assert (problem.reason, problem.message) == ("UserCodeError", "it broke")
