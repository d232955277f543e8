"""Jobs that others hold: a queue that admits them one by one, or a controller that suspends all it sees."""

from __future__ import annotations

from modelyard.api.conditions import ConditionType
from modelyard.engine.plan import Manifest
from modelyard.training import names
from modelyard.training.view import View
from modelyard.workloads.problem import Problem


def find_holder(view: View, job: Manifest, has_run: bool) -> Problem | None:
    """What a suspended Job waits for; None where it is to be replaced by another.

    A Job that was suspended as it came into being would be followed by one that is suspended just so.
    """
    if names.QUEUE_LABEL in (job["metadata"].get("labels") or {}):
        return Problem("Queued", "The job waits in its queue.")
    if has_run or is_stopping(view):
        return None
    name = job["metadata"]["name"]
    return Problem(
        "JobSuspended",
        f"Job {name} was suspended by another controller before it began. If a queue is to admit it, it goes on"
        f" by itself; else exempt it there, or set spec.suspend of Job {name} to false.",
    )


def is_stopping(view: View) -> bool:
    """Whether the operator itself has stopped the pods, as the last pass has said."""
    return any(
        c.type == ConditionType.SUSPENDED and (c.status == "True" or c.reason == "Stopping")
        for c in view.status.conditions
    )
