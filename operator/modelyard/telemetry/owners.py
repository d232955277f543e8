"""Who resources belong to, for metrics: users choose the values of two labels, and series must stay bounded."""

from __future__ import annotations

from modelyard.engine.plan import Manifest

PROJECT_LABEL = "modelyard.dev/project"
TEAM_LABEL = "modelyard.dev/team"
# Beyond so many pairs the rest is counted as "other".
MAX_OWNERS = 200
OTHER = ("other", "other")


class Owners:
    """The pairs of project and team that have series."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()

    def find(self, resource: Manifest) -> tuple[str, str]:
        """Project and team of a resource; empty where it has none."""
        labels = resource["metadata"].get("labels") or {}
        owner = (labels.get(PROJECT_LABEL, ""), labels.get(TEAM_LABEL, ""))
        if owner not in self._known:
            if len(self._known) >= MAX_OWNERS:
                return OTHER
            self._known.add(owner)
        return owner
