"""Labels of what features make."""

from __future__ import annotations

from collections.abc import Mapping

from modelyard.engine.kinds import MANAGED_BY, MANAGED_BY_LABEL

STAGE_LABEL = "modelyard.dev/stage"
# A user's own, which all children inherit: what cost and lineage are counted by.
INHERITED_LABELS = ("modelyard.dev/project", "modelyard.dev/team")


def build(owner_label: str, owner: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of every child of the resource `owner`, whose own labels are `labels`."""
    inherited = {key: labels[key] for key in INHERITED_LABELS if key in labels}
    return {
        MANAGED_BY_LABEL: MANAGED_BY,
        "app.kubernetes.io/part-of": "modelyard",
        owner_label: owner,
        **inherited,
    }
