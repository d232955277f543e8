"""What the dashboards have in common: names, tags, variables, links to each other."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard as Model
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    RowPanel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards.panels import DATASOURCE

TAG = "modelyard"
# Of links and marks; the library's default is a menu.
IN_SIGHT = ""


def build_board(name: str, title: str, description: str, *variables: Builder[VariableModel]) -> Dashboard:
    """A dashboard without panels. `name` makes its uid, which links and bookmarks name: it never changes."""
    board = (
        Dashboard(f"Modelyard / {title}")
        .uid(f"{TAG}-{name}")
        .description(description)
        .tags([TAG])
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            DashboardLink("Modelyard")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
            .placement(IN_SIGHT)
        )
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for variable in variables:
        board.with_variable(variable)
    return board


def add_row(board: Dashboard, title: str, *panels: Builder[Panel], collapsed: bool = False) -> None:
    """Puts panels below a heading; those of a collapsed one are asked for when somebody opens it."""
    row = Row(title)
    if collapsed:
        for panel in panels:
            row.with_panel(panel)
        board.with_row(row)
        return
    board.with_row(row)
    for panel in panels:
        board.with_panel(panel)


def choose_many(name: str, label: str, query: str) -> QueryVariable:
    """A variable of any number of values, at first all of them, those that are empty among them."""
    every = VariableOption(selected=True, text="All", value="$__all")
    return choose_one(name, label, query).multi(True).include_all(True).all_value(".*").current(every)


def choose_one(name: str, label: str, query: str) -> QueryVariable:
    """A variable of one value, from `label_values(…)` over the time shown."""
    return (
        QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def finish(board: Dashboard) -> Model:
    """The dashboard's model, with its panels numbered: links to a panel name its number."""
    built = board.build()
    number = 0
    for panel in built.panels or []:
        inner = panel.panels if isinstance(panel, RowPanel) else []
        for each in (panel, *inner):
            number += 1
            each.id_val = number
    return built
