"""Pods that must leave their node, because it is drained by a taint or doesn't answer any more.

The others can't go on without them, and the next attempt must not begin beside them: they are asked to stop at
once, so that they save together with a pod that still can, and their grace runs beside that of one that can't.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from modelyard.api.status import Failure
from modelyard.engine.plan import Manifest
from modelyard.training import names
from modelyard.training.attempts.ending import Ending
from modelyard.training.draft import Draft
from modelyard.training.view import View
from modelyard.workloads.pods import delays, podstate


def is_under_way(view: View, job: Manifest, pods: list[Manifest]) -> bool:
    """Whether a node takes a pod away while others of the attempt still run. A queue's Job is its queue's to stop."""
    if names.QUEUE_LABEL in (job["metadata"].get("labels") or {}):
        return False
    staying = [pod for pod in pods if not podstate.is_over(pod) and not podstate.is_lost(pod, view.now)]
    return bool(staying) and any(
        podstate.is_lost(pod, view.now) or podstate.is_driven_off(pod) for pod in pods
    )


def find_loss(pods: Iterable[Manifest], now: datetime) -> Ending | None:
    """The end of a stage of which a pod was lost with its node."""
    lost = next((pod for pod in pods if podstate.is_lost(pod, now)), None)
    if lost is None:
        return None
    problem = delays.find_problem([lost], now)
    failure = Failure(
        reason="NodeLost",
        message=problem.message if problem else "",
        pod=lost["metadata"]["name"],
        node=lost["spec"].get("nodeName"),
    )
    return Ending("Infrastructure", failure)


def plan_looks(draft: Draft, pods: Iterable[Manifest]) -> None:
    """Asks for a pass when pods that are being deleted would be lost."""
    for pod in pods:
        seconds = podstate.seconds_until_lost(pod, draft.view.now)
        if seconds is not None:
            draft.wake_in(seconds)
