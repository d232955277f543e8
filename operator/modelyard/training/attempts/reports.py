"""What the pods of an attempt tell, taken over into the status as soon as it is seen."""

from __future__ import annotations

from modelyard.api.status import Attempt
from modelyard.contract.report import TrainResult
from modelyard.engine.plan import Manifest
from modelyard.training.draft import Draft
from modelyard.training.status import progress


def fold(draft: Draft, job: Manifest, results: dict[int, TrainResult]) -> None:
    """Takes over what pods have reported, at once: a deleted pod's words are soon gone."""
    attempt = draft.status.attempts[-1]
    report = progress.read_report(draft.view.seen, attempt.index)
    place = progress.place_of(job)
    if report is not None and report.step >= (attempt.to_step or 0) and not results:
        if report.state != "starting":
            draft.update(progress=progress.build_progress(report, draft.view.spec.gate))
        draft.update(
            checkpoints=progress.build_checkpoints(
                place, report.last_checkpoint, report.best_checkpoint, draft.status.checkpoints
            )
        )
        if report.resumed_from is not None and attempt.from_step != report.resumed_from:
            attempt = attempt.changed(from_step=report.resumed_from)
            draft.update(attempts=[*draft.status.attempts[:-1], attempt])
    if not results:
        return
    result = max(results.values(), key=lambda r: (r.node == 0, r.step))
    reached = max(r.step for r in results.values())
    is_silent = bool(draft.view.spec.trainer.command) and reached <= 0
    # The other nodes know of no checkpoint but one that all have saved together.
    knows = result.node == 0 or result.last_checkpoint is not None
    update = {
        # A program of one's own that reports no steps may have done any number of them.
        "to_step": None if is_silent else reached,
        "lost_steps": result.lost_steps if knows else _count_lost(draft, reached, attempt.from_step),
        "from_step": result.resumed_from if result.resumed_from is not None else attempt.from_step,
    }
    draft.update(
        attempts=[*draft.status.attempts[:-1], attempt.changed(**update)],
        checkpoints=progress.build_checkpoints(
            place, result.last_checkpoint, result.best_checkpoint, draft.status.checkpoints
        ),
    )


def estimate_steps(draft: Draft, attempt: Attempt) -> dict[str, int]:
    """Steps done and steps in no checkpoint, for an attempt whose pods left no word: from rank 0's last
    answer.
    """
    report = progress.read_report(draft.view.seen, attempt.index)
    if attempt.to_step is not None or report is None or report.state == "starting":
        return {}
    return {"to_step": report.step, "lost_steps": _count_lost(draft, report.step, report.resumed_from)}


def _count_lost(draft: Draft, step: int, resumed_from: int | None) -> int:
    """Steps that are in no checkpoint, as far as rank 0 has told of them."""
    saved = draft.status.checkpoints.last if draft.status.checkpoints else None
    return max(0, step - max(saved.step if saved else 0, resumed_from or 0))
