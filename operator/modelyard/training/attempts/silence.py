"""Pods that run while no step is known: what that means, and for how long it may be so."""

from __future__ import annotations

from modelyard.api.conditions import ConditionType
from modelyard.api.status import Attempt
from modelyard.contract import codes
from modelyard.engine.plan import Manifest
from modelyard.training.draft import Draft, Stage
from modelyard.training.view import View
from modelyard.workloads.pods import podstate
from modelyard.workloads.problem import Problem

# A program of the user's own that has said nothing for so long trains without a word. Ours always speaks.
QUIET_AFTER = 30.0
# Loading takes seconds to minutes.
LONG_AFTER = 300.0
# An agent answers within its first second; with thousands of them each is asked every minute or two.
UNREACHABLE_AFTER = 150.0
UNREACHABLE = "AgentUnreachable"

_QUIET = (
    "The program runs; it reports no steps. transformers' Trainer reports by itself; any other program can POST"
    ' {"state": "training", "step": 1, "maxSteps": 100, "metrics": {"loss": 0.5}} to'
    " http://127.0.0.1:$MODELYARD_AGENT_PORT/v1/report."
)


def recall(view: View) -> tuple[Stage, str] | None:
    """What rank 0 had said before this operator began, which has not asked it yet: stage and message."""
    told = {condition.type: condition for condition in view.status.conditions}
    ready, progressing = told.get(ConditionType.READY), told.get(ConditionType.PROGRESSING)
    if progressing is None or ready is None or ready.reason == UNREACHABLE:
        return None
    stages: tuple[Stage, ...] = ("Training", "Evaluating")
    return next(((stage, progressing.message) for stage in stages if stage == progressing.reason), None)


def explain(draft: Draft, attempt: Attempt, pods: list[Manifest], answered: bool) -> None:
    """All pods of the attempt run, but no step is reported. `answered`: rank 0's agent says so itself."""
    own = bool(draft.view.spec.trainer.command)
    stage: Stage = "Recovering" if attempt.index > 1 else "Starting"
    starts = [start for pod in pods if (start := podstate.start_of(pod))]
    running = (draft.view.now - max(starts)).total_seconds() if starts else 0.0
    leader = min(pods, key=podstate.index_of)["metadata"]["name"]
    limit = UNREACHABLE_AFTER if not answered else QUIET_AFTER if own else LONG_AFTER
    if running <= limit:
        draft.wake_in(limit + 1 - running)
        what = "the program is starting" if own else "they load the model and the data"
        draft.stand(stage, f"The pods run; {what}.")
    elif not answered:
        text = (
            f"The pods run, but the agent of pod {leader} does not answer the operator, so that neither steps nor"
            f" checkpoints can be shown; the training itself needs no answer. Let the operator reach TCP port"
            f" {codes.AGENT_PORT} of these pods: a NetworkPolicy, or a mesh that wants mutual TLS, keeps it out."
        )
        draft.stand("Training", text, Problem(UNREACHABLE, text, leader))
    elif own:
        draft.stand("Training", _QUIET)
    else:
        draft.stand(
            stage,
            f"The pods run, but training has not begun for {limit / 60:.0f} minutes. Loading a large model takes"
            f" long; if it doesn't end: kubectl logs {leader}.",
        )
