"""The chart's dashboards as the tests read them: their queries, and what Grafana puts in for their variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests import metrics

FOLDER = Path(__file__).resolve().parents[1] / "charts" / "modelyard" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}


class Query(NamedTuple):
    """One expression of a dashboard: where it stands, and how its series are named."""

    board: str
    title: str
    expr: str
    legend: str

    def __str__(self) -> str:
        return f"{self.board}: {self.title}: {self.expr}"

    @property
    def metrics(self) -> set[str]:
        """The metrics that it asks for."""
        return set(re.findall(metrics.NAME, self.expr))


def read_panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, those of collapsed rows and the rows themselves among them."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels") or []


def read_queries() -> list[Query]:
    """Every query of every panel, and of every annotation."""
    found = []
    for name, board in BOARDS.items():
        found += [
            Query(name, panel["title"], target["expr"], target.get("legendFormat", ""))
            for panel in read_panels(board)
            for target in panel.get("targets") or []
        ]
        marks = board["annotations"].get("list", [])
        found += [Query(name, mark["name"], mark["expr"], mark["titleFormat"]) for mark in marks]
    return found


def read_variables(board: Mapping[str, Any]) -> dict[str, str]:
    """The series whose label of the variable's own name it may have as value, by variable.

    Raises AssertionError for a variable that is none of that kind, save the data source's.
    """
    found = {}
    for variable in board["templating"]["list"]:
        if variable["name"] == "datasource":
            continue
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert asked is not None, variable["query"]
        assert asked[2] == variable["name"], variable["query"]
        found[variable["name"]] = asked[1]
    return found


def fill_in(expr: str, window: str, chosen: Mapping[str, str]) -> str:
    """The expression as Grafana sends it: `window` for its own intervals, the chosen values for other variables.

    Raises AssertionError for a variable that nobody chose.
    """
    values = {"__rate_interval": window, "__range": window, **chosen}

    def value(found: re.Match[str]) -> str:
        assert found[1] in values, f"${found[1]} is not chosen in {expr}"
        return values[found[1]]

    return re.sub(r"\$(\w+)", value, expr)


def choose(board: str, namespace: str, name: str) -> dict[str, str]:
    """What a reader has chosen: one job on the job's dashboard, All on the others."""
    if board == "job":
        return {"namespace": namespace, "name": name}
    return dict.fromkeys(("instance", "namespace", "name", "project", "team"), ".*")
