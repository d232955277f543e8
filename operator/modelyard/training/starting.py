"""Pods that run and have not trained a step yet: what that means, and for how long it may be so."""

from __future__ import annotations

from modelyard.api.status import Attempt
from modelyard.engine.plan import Manifest
from modelyard.training import podstate
from modelyard.training.draft import Draft, Stage

# A program of the user's own that has said nothing for so long trains without a word. Ours always speaks.
QUIET_AFTER = 30.0
# Loading takes seconds to minutes.
LONG_AFTER = 300.0

_QUIET = (
    "The program runs; it reports no steps. transformers' Trainer reports by itself; any other program can POST"
    ' {"state": "training", "step": 1, "maxSteps": 100, "metrics": {"loss": 0.5}} to'
    " http://127.0.0.1:$MODELYARD_AGENT_PORT/v1/report."
)


def explain(draft: Draft, attempt: Attempt, pods: list[Manifest]) -> None:
    """All pods of the attempt run, but no step is reported."""
    stage: Stage = "Recovering" if attempt.index > 1 else "Starting"
    starts = [start for pod in pods if (start := podstate.start_of(pod))]
    running = (draft.view.now - max(starts)).total_seconds() if starts else 0.0
    limit = QUIET_AFTER if draft.view.spec.trainer.command else LONG_AFTER
    if running <= limit:
        draft.wake_in(limit + 1 - running)
    if draft.view.spec.trainer.command:
        if running > limit:
            draft.stand("Training", _QUIET)
        else:
            draft.stand(stage, "The pods run; the program is starting.")
    elif running > limit:
        leader = min(pods, key=podstate.index_of)["metadata"]["name"]
        draft.stand(
            stage,
            f"The pods run, but training has not begun for {limit / 60:.0f} minutes. Loading a large model takes"
            f" long; if it doesn't end: kubectl logs {leader}.",
        )
    else:
        draft.stand(stage, "The pods run; they load the model and the data.")
