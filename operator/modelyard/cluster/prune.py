"""What the cache keeps of an object."""

from __future__ import annotations

from modelyard.engine.managed import keep_scale_writers
from modelyard.engine.plan import Manifest


def prune(obj: Manifest) -> Manifest:
    """Drops what no plan reads and the engine does not compare: most of the bytes. Changes `obj`.

    Pods are made by others (the Job controller), so of their spec only the node's name counts.
    """
    keep_scale_writers(obj["metadata"])
    if obj["kind"] == "Pod":
        node = (obj.get("spec") or {}).get("nodeName")
        obj["spec"] = {"nodeName": node} if node else {}
        status = obj.get("status") or {}
        for name in ("hostIPs", "podIPs", "qosClass"):
            status.pop(name, None)
    return obj
