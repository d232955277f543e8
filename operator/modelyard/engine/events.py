"""Kubernetes Events, named after what they tell, so that telling it twice leaves one."""

from __future__ import annotations

from datetime import datetime

from modelyard.engine.compare import digest
from modelyard.engine.kinds import Kind
from modelyard.engine.plan import Event, Manifest

COMPONENT = "modelyard"
MESSAGE_LIMIT = 1024  # of the API


def build_event(event: Event, resource: Manifest, kind: Kind, now: datetime) -> Manifest:
    """The Event's manifest.

    Its name holds the resource's version: an Event belongs to one change of the status, and the version stays
    the same until that change is written. So an operator that was killed between the Event and the status,
    tells it again under the same name, and the server refuses the second.
    """
    metadata = resource["metadata"]
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    told = [metadata["uid"], metadata["resourceVersion"], event.type, event.reason, event.message]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:200]}.{digest(told)[:20]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:MESSAGE_LIMIT],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
