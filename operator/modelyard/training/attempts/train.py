"""The train stage: attempts, one after the other. Attempt n+1 begins only once the end of attempt n is
recorded.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.api.profile import Settings
from modelyard.api.status import Attempt, Failure
from modelyard.engine.plan import Manifest
from modelyard.training import names
from modelyard.training.attempts import lifecycle
from modelyard.training.attempts.ending import Ending
from modelyard.training.children import claims, factory, upkeep
from modelyard.training.draft import Draft
from modelyard.workloads.problem import Problem

ATTEMPT_LIMIT = 20


def advance(draft: Draft, settings: Settings) -> None:
    """Goes on with training."""
    view = draft.view
    found = names.find_jobs(view.seen.children, view.name, "train")
    index = max(found, default=0)
    job = found.get(index)
    _adopt(draft, job, index)
    attempts = draft.status.attempts
    if attempts and attempts[-1].cause is None:
        if job is None or index != attempts[-1].index:
            failure = Failure(reason="JobDeleted", message="The attempt's Job was deleted by someone else.")
            lifecycle.record(draft, attempts[-1], Ending("Infrastructure", failure))
        else:
            factory.existing(draft)
            upkeep.keep_service(draft)
            lifecycle.advance(draft, settings, job)
            if draft.status.attempts[-1].cause is not None:
                draft.children.clear()  # nothing is made again for pods that have ended
        if draft.over or draft.status.attempts[-1].cause is None:
            return
    recorded = not attempts or (
        bool(view.status.attempts) and _ended(view.status.attempts, draft.status.attempt)
    )
    _go_on(draft, settings, job, recorded)


def _adopt(draft: Draft, job: Manifest | None, index: int) -> None:
    """Notes an attempt whose Job has come into being."""
    if job is None or index <= draft.status.attempt:
        return
    created = job["metadata"].get("creationTimestamp")
    saved = draft.status.checkpoints.last if draft.status.checkpoints else None
    attempt = Attempt(index=index, start_time=created, from_step=saved.step if saved else None)
    draft.update(
        attempts=[*draft.status.attempts, attempt][-ATTEMPT_LIMIT:],
        attempt=index,
        retry_time=None,
        start_time=draft.status.start_time or created,
    )
    draft.emit("Normal", "AttemptStarted", f"Attempt {index} started.")


def _go_on(draft: Draft, settings: Settings, job: Manifest | None, recorded: bool) -> None:
    """Between two attempts, or before the first."""
    view = draft.view
    factory.existing(draft)
    used = claims.find_used(draft)
    if used is not None and (loss := claims.find_loss(view, used)) is not None:
        draft.fail(loss)
        return
    last = draft.status.attempts[-1] if draft.status.attempts else None
    draft.update(nodes=None)
    if view.spec.suspend:
        draft.keep.difference_update({o for o in draft.keep if o.startswith("Service/")})
        _keep_job(draft, job, not recorded)
        if last is None:
            factory.check(view, settings)
        draft.stand("Suspended", "spec.suspend is true; set it to false to go on from the newest checkpoint.")
    elif draft.wait_for_retry() or not recorded:
        _keep_job(draft, job, keep=True)
        message = _explain_wait(last)
        problem = (
            None
            if last is not None and last.cause == "Suspended"
            else Problem("ProgressingWithRetry", message)
        )
        draft.stand("Recovering", message, problem)
        if not recorded:
            draft.wake_in(0.0)
    else:
        draft.keep = {o for o in draft.keep if o.startswith(("PersistentVolumeClaim/", "Job/"))}
        draft.stand("Recovering" if last else "Starting", "The training pods are being started.")
        factory.create_train(draft, settings, draft.status.attempt + 1)


def _keep_job(draft: Draft, job: Manifest | None, keep: bool) -> None:
    if job is not None and keep:
        draft.keep_object(job)


def _ended(attempts: Sequence[Attempt], index: int) -> bool:
    return attempts[-1].index == index and attempts[-1].cause is not None


def _explain_wait(last: Attempt | None) -> str:
    if last is None:
        return "The training pods are being started."
    why = {
        "Preempted": "was asked to stop",
        "Suspended": "was suspended",
        "Infrastructure": "was interrupted",
    }
    text = f"The last attempt {why.get(str(last.cause), 'failed')}; the next one starts at status.retryTime."
    return f"{text} {last.failure.message}" if last.failure else text
