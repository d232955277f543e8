"""Shapes of panels. Each has a title, a sentence on what it means, a unit, and the chosen data source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import NamedTuple

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models import common as values
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = values.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Where a colour begins; the first is that of everything below.
Steps = Sequence[tuple[float | None, str]]
PLAIN: Steps = ((None, "blue"),)
NONE_IS_WELL: Steps = ((None, "green"), (1, "red"))
MORE_IS_BETTER: Steps = ((None, "red"), (0.5, "orange"), (0.8, "green"))


class Query(NamedTuple):
    """An expression, and how its series are named: `{{label}}` is the label's value."""

    expr: str
    legend: str = ""

    def target(self, index: int, instant: bool = False, as_table: bool = False) -> prometheus.Dataquery:
        """The panel's query of that index, over the time that is shown or at its end."""
        target = prometheus.Dataquery().datasource(DATASOURCE).ref_id(ascii_uppercase[index]).expr(self.expr)
        if self.legend:
            target.legend_format(self.legend)
        if as_table:
            target.format(PromQueryFormat.TABLE)
        return target.instant() if instant else target.range()


def curves(
    title: str, description: str, unit: str, *queries: Query, width: int = 12, stacked: bool = False
) -> timeseries.Panel:
    """Lines over time; stacked, areas that add up."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .fill_opacity(50 if stacked else 0)
        .show_points(values.VisibilityMode.AUTO)
        .legend(_legend())
        .tooltip(_tooltip())
    )
    if stacked:
        panel.stacking(common.StackingConfig().group("A").mode(values.StackingMode.NORMAL)).min(0)
    for index, query in enumerate(queries):
        panel.with_target(query.target(index))
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    steps: Steps = PLAIN,
    named: bool = False,
    last_known: bool = False,
    empty: str = "–",
) -> stat.Panel:
    """One value at the end of the time shown: the last that there was if `last_known`, the series' names if `named`."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value(empty)
        .span(4)
        .height(4)
        .thresholds(_thresholds(steps))
        .color_mode(values.BigValueColorMode.VALUE)
        .graph_mode(values.BigValueGraphMode.NONE)
        .text_mode(values.BigValueTextMode.NAME if named else values.BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query.target(0, instant=not last_known))
    )


def bars(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    steps: Steps = PLAIN,
    width: int = 8,
    last_known: bool = False,
) -> bargauge.Panel:
    """One bar a series, at the end of the time shown; the last value that there was if `last_known`."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .thresholds(_thresholds(steps))
        .orientation(values.VizOrientation.HORIZONTAL)
        .display_mode(values.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query.target(0, instant=not last_known))
    )


def states(
    title: str, description: str, names: Mapping[int, tuple[str, str]], query: Query, width: int = 12
) -> statetimeline.Panel:
    """A band a series over time; `names` has the word and the colour of each value."""
    mapped = {
        str(value): ValueMappingResult(text=text, color=color) for value, (text, color) in names.items()
    }
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .mappings([ValueMap(options=mapped)])
        .span(width)
        .height(8)
        .show_value(values.VisibilityMode.NEVER)
        .legend(_legend())
        .with_target(query.target(0))
    )


class Column(NamedTuple):
    """A column of a table: of a label, or of an expression's values."""

    title: str
    source: str
    unit: str = ""
    steps: Steps = ()
    bar: bool = False
    link: str = ""


def rows(
    title: str, description: str, columns: Sequence[Column], expressions: Mapping[str, str], height: int = 10
) -> table.Panel:
    """A line for each set of labels; `expressions` has those whose labels or values the columns show, by name.

    A column's source is a label, or the name of an expression.
    """
    panel = table.Panel().title(title).description(description).datasource(DATASOURCE).span(24).height(height)
    fields = {}
    for index, (name, expr) in enumerate(expressions.items()):
        panel.with_target(Query(expr).target(index, instant=True, as_table=True))
        fields[name] = f"Value #{ascii_uppercase[index]}" if len(expressions) > 1 else "Value"
    titles = {fields.get(column.source, column.source): column.title for column in columns}
    hidden = {"Time", *fields.values()} - set(titles)
    order: dict[str, object] = {
        "excludeByName": dict.fromkeys(sorted(hidden), True),
        "indexByName": {field: index for index, field in enumerate(titles)},
        "renameByName": titles,
    }
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(DataTransformerConfig(id_val="organize", options=order))
    for column in columns:
        if properties := _properties(column):
            panel.override_by_name(column.title, properties)
    return panel


def _properties(column: Column) -> list[DynamicConfigValue]:
    found: dict[str, object] = {}
    if column.unit:
        found["unit"] = column.unit
    if column.steps:
        found["thresholds"] = _thresholds(column.steps).build()
        found["custom.cellOptions"] = {"type": "color-text"}
    if column.bar:
        found["custom.cellOptions"] = {"type": "gauge", "mode": "basic"}
        found |= {"min": 0, "max": 1}
    if column.link:
        found["links"] = [{"title": column.title, "url": column.link}]
    return [DynamicConfigValue(id_val=name, value=value) for name, value in found.items()]


def _thresholds(steps: Steps) -> ThresholdsConfig:
    found = [Threshold(value=value, color=color) for value, color in steps]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def _legend() -> common.VizLegendOptions:
    shown = common.VizLegendOptions().show_legend(True)
    return shown.display_mode(values.LegendDisplayMode.LIST).placement(values.LegendPlacement.BOTTOM)


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(values.TooltipDisplayMode.MULTI).sort(values.SortOrder.DESCENDING)
