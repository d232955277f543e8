"""activeDeadlineSeconds: how long pods may be active, summed over all attempts."""

from __future__ import annotations

from datetime import datetime
from math import ceil

from modelyard.engine.plan import Manifest
from modelyard.training.draft import Draft
from modelyard.workloads import jobstate
from modelyard.workloads.pods import podstate
from modelyard.workloads.times import parse_time


def check(draft: Draft, job: Manifest, pods: list[Manifest]) -> bool:
    """Whether the deadline has passed; plans to look again when it will."""
    limit = draft.view.spec.active_deadline_seconds
    if limit is None:
        return False
    if is_overdue(draft, job, pods):
        return True
    start, end = active_span(job, pods, draft.view.now)
    if start is not None:
        draft.wake_in(limit - draft.status.active_seconds - (end - start).total_seconds() + 1)
    return False


def is_overdue(draft: Draft, job: Manifest, pods: list[Manifest]) -> bool:
    """Whether ended attempts and this one together were active for too long."""
    limit = draft.view.spec.active_deadline_seconds
    start, end = active_span(job, pods, draft.view.now)
    noted = draft.status.attempts[-1].active_seconds or 0
    current = max(noted, (end - start).total_seconds() if start else 0.0)
    return limit is not None and draft.status.active_seconds + current > limit


def note(draft: Draft, job: Manifest, pods: list[Manifest]) -> None:
    """Writes down how long a stopping attempt was active: a suspended Job forgets when it began, and its
    pods go.
    """
    attempt = draft.status.attempts[-1]
    start, end = active_span(job, pods, draft.view.now)
    if start is not None and attempt.active_seconds is None:
        # Rounded up, so that what was over the deadline stays over it.
        noted = attempt.changed(active_seconds=ceil((end - start).total_seconds()))
        draft.update(attempts=[*draft.status.attempts[:-1], noted])


def active_span(
    job: Manifest | None, pods: list[Manifest], now: datetime
) -> tuple[datetime | None, datetime]:
    """From the first container's start to the last one's end (or now)."""
    starts = [start for pod in pods if (start := podstate.start_of(pod))]
    ends = [podstate.terminated(pod).get("finishedAt") for pod in pods]
    finished = [parse_time(end) for end in ends if end]
    over = bool(pods) and len(finished) == len(pods)
    end = min(now, max(finished)) if over else now
    if starts:
        return min(starts), max(end, min(starts))
    started = ((job or {}).get("status") or {}).get("startTime")
    if pods or not started:
        return None, end  # no container ever ran
    failed = jobstate.condition_time(job, *jobstate.END_CONDITIONS) if job else None
    return parse_time(started), parse_time(failed) if failed else end
