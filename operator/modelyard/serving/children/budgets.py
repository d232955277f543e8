"""How many pods may be evicted at once."""

from __future__ import annotations

from collections.abc import Mapping

from modelyard.engine.plan import Child
from modelyard.serving import names
from modelyard.serving.children.site import Site


def build(site: Site, name: str, component: str, selector: Mapping[str, str]) -> Child:
    """One pod at a time may be evicted, also where there is only one: a drain of its node would wait for ever.

    So it would for one that isn't ready, which nobody misses.
    """
    manifest = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": names.object_labels(site.name, component, site.labels)},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(selector)},
        },
    }
    return Child(manifest)
