"""Which resources are looked at first where all are: at the start, and when settings change."""

from __future__ import annotations

from enum import IntEnum

from modelyard.engine.plan import Manifest


class Urgency(IntEnum):
    """The smaller, the sooner. All are looked at; thousands at rest only must not stand before one that is new."""

    NEW = 0
    """Nobody has looked at it since its spec changed, or it is to be deleted."""
    UNDER_WAY = 1
    """It isn't yet where its spec wants it: its children may have changed unseen."""
    AT_REST = 2
    """It is there, or stands still until somebody changes it."""


def urgency(resource: Manifest) -> Urgency:
    """Read from what kstatus reads: metadata, `status.observedGeneration` and the condition Reconciling."""
    metadata, status = resource["metadata"], resource.get("status") or {}
    if "deletionTimestamp" in metadata or status.get("observedGeneration") != metadata.get("generation"):
        return Urgency.NEW
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Reconciling" and condition.get("status") == "True":
            return Urgency.UNDER_WAY
    return Urgency.AT_REST
