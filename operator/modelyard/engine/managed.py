"""Who else has set the size of an object: all that is kept of its managed fields."""

from __future__ import annotations

from typing import Any

from modelyard.engine.plan import Manifest

_SCALE = "scale"


def keep_scale_writers(metadata: dict[str, Any]) -> None:
    """Drops the managed fields but the names of those that own what they wrote through the scale subresource."""
    entries = metadata.pop("managedFields", None) or ()
    writers = [
        {"manager": str(entry.get("manager", "")), "subresource": _SCALE}
        for entry in entries
        if entry.get("subresource") == _SCALE
    ]
    if writers:
        metadata["managedFields"] = writers


def find_scale_writers(obj: Manifest) -> tuple[str, ...]:
    """Those whose word on the size of the object stands, e.g. kube-controller-manager (an autoscaler) or kubectl.

    The operator's own writes are applies of the whole object: one of them ends what others had written.
    """
    entries = obj["metadata"].get("managedFields") or ()
    return tuple(sorted({e["manager"] for e in entries if e.get("subresource") == _SCALE}))
