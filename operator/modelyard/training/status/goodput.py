"""status.goodput: where the time of the attempts went, and how much of it made new steps.

Each second from the first attempt's start is in one state. Up to the start of rank 0's container the cluster tells,
from then on its agent. Like status.cost it is brought up to date with whatever else changes in the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from modelyard.api.status import Attempt, Goodput
from modelyard.contract.report import TrainResult
from modelyard.engine.plan import Manifest
from modelyard.training.draft import Draft
from modelyard.training.status import progress
from modelyard.workloads.pods import podstate
from modelyard.workloads.times import parse_time

Seconds = Mapping[str, float]

STATES = ("queued", "starting", "productive", "evaluating", "saving", "exporting", "recovering")

_DIGITS = 1
# What is known of an attempt whose agent has told nothing.
_UNTOLD = {"queued", "starting", "recovering"}
# What agents call their states, and what they are to the job as a whole.
_STATES = {
    "training": "productive",
    "repeating": "recovering",
    "restarting": "recovering",
    "evaluating": "evaluating",
    "saving": "saving",
    "exporting": "exporting",
}


def note(draft: Draft, pods: list[Manifest]) -> None:
    """The attempt runs."""
    attempt = draft.status.attempts[-1]
    told = _read_told(draft, attempt)
    known = draft.status.goodput or Goodput()
    if told or not _subtract(known.seconds, known.ended_seconds).keys() - _UNTOLD:
        draft.spent = _spend(draft, attempt, pods, told, draft.view.now)
    # Else it has told more before than can be known without it: nobody answers any more, or hasn't yet again.


def settle(
    draft: Draft, attempt: Attempt, end: datetime, pods: list[Manifest], result: TrainResult | None
) -> None:
    """The attempt has ended. `result` is rank 0's; without one counts what was last heard of it."""
    known = draft.status.goodput or Goodput()
    told = result.seconds if result is not None else _read_told(draft, attempt)
    spent = {} if told else _subtract(known.seconds, known.ended_seconds)
    spent = spent or _spend(draft, attempt, pods, told, end)
    begun = _begin(draft, attempt)
    if begun is not None and spent.keys() - {"queued"}:
        # What came after its last word: its leaving, or work that is lost with it.
        last = "exporting" if attempt.cause == "Finished" else "recovering"
        spent = _add(spent, {last: _between(begun, end) - sum(spent.values())})
    draft.spent = None
    ended = _add(known.ended_seconds, spent)
    if ended:
        draft.update(goodput=Goodput(ratio=_ratio(ended), seconds=ended, ended_seconds=ended))


def sum_up(draft: Draft) -> None:
    """Brings status.goodput up to date, if there is reason to."""
    if draft.spent and draft.status != draft.view.status:
        known = draft.status.goodput or Goodput()
        seconds = _add(known.ended_seconds, draft.spent)
        draft.update(goodput=known.changed(seconds=seconds, ratio=_ratio(seconds)))


def _spend(draft: Draft, attempt: Attempt, pods: list[Manifest], told: Seconds, now: datetime) -> Seconds:
    """Seconds of an attempt by `now`, the wait before it included. `told` are rank 0's agent's."""
    begun, created = _begin(draft, attempt), _parse(attempt.start_time)
    if begun is None or created is None:
        return {}
    leader = next((pod for pod in pods if podstate.index_of(pod) == 0), None)
    started = podstate.start_of(leader) if leader else None
    placed = (_parse((leader.get("status") or {}).get("startTime")) if leader else None) or started
    spent = _add({"recovering": _between(begun, created)}, {"queued": _between(created, placed or now)})
    if placed is None or not (told or draft.view.spec.builtin):
        return spent  # of a program that tells nothing nobody knows what it does
    waking = "recovering" if _interrupted(draft, attempt) else "starting"
    if not told or started is None:
        return _add(spent, {waking: _between(placed, now)})
    spent = _add(spent, {waking: _between(placed, started)})
    for state, seconds in told.items():
        if seconds > 0:  # a pod may say anything
            spent = _add(spent, {_STATES.get(state, waking): min(seconds, _between(created, now))})
    return spent


def _read_told(draft: Draft, attempt: Attempt) -> Seconds:
    report = progress.read_report(draft.view.seen, attempt.index)
    return report.seconds if report else {}


def _interrupted(draft: Draft, attempt: Attempt) -> Attempt | None:
    """The attempt for which this one goes on. One that was suspended had been asked to stop."""
    before = next((a for a in draft.status.attempts if a.index == attempt.index - 1), None)
    return before if before is not None and before.cause != "Suspended" else None


def _begin(draft: Draft, attempt: Attempt) -> datetime | None:
    """When what the attempt takes began: where it goes on for another, with the other's end."""
    before = _interrupted(draft, attempt)
    return _parse(before.end_time if before is not None else attempt.start_time)


def _ratio(seconds: Seconds) -> float | None:
    """Who waits for a place trains nothing, but holds nothing either."""
    total = sum(spent for state, spent in seconds.items() if state != "queued")
    return round(seconds.get("productive", 0.0) / total, 4) if total else None


def _add(a: Seconds, b: Seconds) -> Seconds:
    total = {state: round(a.get(state, 0.0) + b.get(state, 0.0), _DIGITS) for state in (*a, *b)}
    return {state: spent for state, spent in total.items() if spent > 0}


def _subtract(a: Seconds, b: Seconds) -> Seconds:
    return _add(a, {state: -spent for state, spent in b.items()})


def _between(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds())


def _parse(time: str | None) -> datetime | None:
    return parse_time(time) if time else None
