"""Whether a dashboard shows what happened while Prometheus looked on."""

from __future__ import annotations

from collections.abc import Mapping

from tests.dashboards import BOARDS, Query, fill_in, read_queries, read_variables
from tests.e2e.scraping import WINDOW, Prometheus


def check_board(
    prometheus: Prometheus,
    name: str,
    chosen: Mapping[str, str],
    excuses: Mapping[str, str],
    start: float,
    end: float,
) -> None:
    """Fails where a query or a variable gives nothing between two Unix times, unless its panel's title is excused; and
    where one that is excused gives something.
    """
    found: list[Query] = []
    empty: list[Query] = []
    for query in read_queries():
        if query.board == name:
            expr = fill_in(query.expr, WINDOW, chosen)
            (found if prometheus.has_data(expr, start, end) else empty).append(query)
    assert [str(query) for query in empty if query.title not in excuses] == []
    assert [str(query) for query in found if query.title in excuses] == [], "excused for nothing"
    for label, series in read_variables(BOARDS[name]).items():
        assert prometheus.find_values(fill_in(series, WINDOW, chosen), label, start, end), f"{name}: {label}"
