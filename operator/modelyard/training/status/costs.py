"""status.cost: what the pods of preparation and of all attempts have set aside, and what that costs.

Hours are those from the start of the first container to the end of the last, for all pods of a Job, as activeSeconds
are. They are brought up to date with whatever else changes in the status: a job that says nothing must not be looked at
and written again and again for it.
"""

from __future__ import annotations

from modelyard.api.profile import Prices, Settings
from modelyard.api.status import Cost
from modelyard.engine.plan import Manifest
from modelyard.training.draft import Draft
from modelyard.workloads import cost, jobstate
from modelyard.workloads.times import parse_time


def note(draft: Draft, job: Manifest, seconds: float) -> None:
    """The Job's pods run, since so many seconds."""
    amounts = cost.list_amounts(job["spec"]["template"]["spec"])
    draft.usage = cost.Usage(amounts, jobstate.count_desired(job), seconds)


def settle(draft: Draft, job: Manifest | None, seconds: float) -> None:
    """The Job's pods have ended, after so many seconds. Of one that is gone counts what was last said of it."""
    known = draft.status.cost or Cost()
    if job is not None:
        note(draft, job, seconds)
    ended = cost.add(known.ended_hours, draft.usage.hours) if draft.usage else known.hours
    draft.usage = None
    if ended:
        draft.update(cost=known.changed(ended_hours=ended, hours=ended))


def sum_up(draft: Draft, settings: Settings) -> None:
    """Brings status.cost up to date, if there is reason to."""
    profile = settings.profiles.get(draft.view.spec.profile)
    if profile is None:
        return
    known, usage = draft.status.cost or Cost(), draft.usage
    if usage is None or not usage.seconds:
        if known.hours and (known.forecast is not None or not _is_priced(known, profile.prices)):
            draft.update(cost=_price(known, None, draft, profile.prices))
        return
    if draft.status != draft.view.status or not _is_priced(known, profile.prices):
        hours = cost.add(known.ended_hours, usage.hours)
        draft.update(cost=_price(known.changed(hours=hours), usage, draft, profile.prices))


def _is_priced(known: Cost, prices: Prices | None) -> bool:
    """Whether its amount is that of its hours at these prices."""
    if prices is None:
        return known.amount is None
    return (known.currency, known.amount) == (prices.currency, cost.price(known.hours, prices))


def _price(known: Cost, usage: cost.Usage | None, draft: Draft, prices: Prices | None) -> Cost:
    if prices is None:
        return known.changed(currency=None, amount=None, forecast=None)
    forecast = None
    end = draft.status.progress.estimated_completion_time if draft.status.progress else None
    if usage is not None and end is not None:
        left = max(0.0, (parse_time(end) - draft.view.now).total_seconds())
        forecast = cost.price(cost.add(known.hours, usage.hours_of(left)), prices)
    amount = cost.price(known.hours, prices)
    return known.changed(currency=prices.currency, amount=amount, forecast=forecast)
