"""Whether an ended attempt is followed by another, and when."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelyard.api.status import Attempt, Cause, Counters
from modelyard.api.trainingjob import Backoff, FailurePolicy
from modelyard.training.attempts.ending import Ending, has_told
from modelyard.workloads.problem import Problem

# 2**16 seconds is beyond every limit of the schema.
_LARGEST_EXPONENT = 16
# What differs between two tellings of the same error: addresses, ports, times, ids, paths of temporary files.
# Seconds for which a program that reports no steps counts as being at its start.
_AT_START = 60
_CHANGING = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b|/tmp/\S+|\d+")


def count(counters: Counters, cause: Cause) -> Counters:
    """The counters after an attempt ended so."""
    field = {
        "UserError": "user_failures",
        "Infrastructure": "infra_failures",
        "Preempted": "preemptions",
    }.get(cause)
    return counters if field is None else counters.changed(**{field: getattr(counters, field) + 1})


def made_progress(attempt: Attempt) -> bool:
    """Whether it went further than where it began, with something saved to show for it."""
    return (attempt.to_step or 0) - (attempt.lost_steps or 0) > (attempt.from_step or 0)


def count_fruitless(attempts: Sequence[Attempt]) -> int:
    """Attempts at the end of the list that made no progress."""
    fruitless = 0
    for attempt in reversed(attempts):
        if made_progress(attempt) or attempt.cause == "Suspended":
            break
        fruitless += 1
    return fruitless


def choose_wait(attempts: Sequence[Attempt], backoff: Backoff) -> float:
    """Seconds before the next attempt. A preempted one that had saved progress goes on at once."""
    last = attempts[-1]
    if last.cause == "Preempted" and made_progress(last):
        return 0.0
    return doubled(backoff, max(0, count_fruitless(attempts) - 1))


def doubled(backoff: Backoff, times: int) -> float:
    """The first wait, doubled so many times, but at most the longest."""
    wait = backoff.initial_seconds * 2 ** min(times, _LARGEST_EXPONENT)
    return float(min(wait, max(backoff.max_seconds, backoff.initial_seconds)))


def came_twice(attempts: Sequence[Attempt]) -> bool:
    """Whether the last attempt failed with the same error at the same step as the one before it.

    Only errors of the code are looked at; interruptions between them don't count. After a suspension the
    trainer may be another, so what was before it doesn't count either.
    """
    last = _fingerprint(attempts[-1])
    if last is None:
        return False
    for attempt in reversed(attempts[:-1]):
        if attempt.cause not in ("Infrastructure", "Preempted"):
            return _fingerprint(attempt) == last
    return False


def _fingerprint(attempt: Attempt) -> tuple[int, str, str] | None:
    """Step, reason and words of the code's error, without what changes each time; None where one isn't known."""
    failure, step = attempt.failure, attempt.to_step
    if step is None and (attempt.active_seconds or 0) <= _AT_START:
        step = 0
    if attempt.cause != "UserError" or failure is None or step is None or not has_told(failure):
        return None
    message = failure.message.replace(failure.pod, "") if failure.pod else failure.message
    return step, failure.reason, " ".join(_CHANGING.sub("#", message).split())


def find_end(
    ending: Ending, attempts: Sequence[Attempt], counters: Counters, policy: FailurePolicy
) -> Problem | None:
    """Why there is no further attempt; None if there is one. `counters` already count this ending."""
    failure = ending.failure
    text = failure.message if failure else ""
    if ending.fatal and failure:
        return Problem(failure.reason, text)
    if failure and policy.max_restarts > 0 and came_twice(attempts):
        step = attempts[-1].to_step
        where = f"at step {step}" if step else "before the first step"
        return Problem(
            failure.reason,
            f"The same error came twice {where}, so the job is not restarted a third time. Correct it and"
            f" create the job anew. {text}",
        )
    if ending.cause == "UserError" and counters.user_failures > policy.max_restarts:
        if policy.max_restarts == 0 and failure:
            return Problem(failure.reason, text)
        if count_fruitless(attempts) > policy.max_restarts:
            return Problem(
                "NoProgress", f"Every attempt failed without getting further. The last one: {text}"
            )
        return Problem(
            "RestartLimit",
            "The training code failed more often than failurePolicy.maxRestarts allows. The last failure:"
            f" {text}",
        )
    if ending.cause == "Infrastructure" and counters.infra_failures > policy.max_infra_restarts:
        return Problem(
            "RestartLimit",
            "The infrastructure failed more often than failurePolicy.maxInfraRestarts allows. Look at the"
            f" nodes named in status.attempts. The last failure: {text}",
        )
    return None
