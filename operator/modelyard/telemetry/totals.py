"""Totals over all resources by owner: they outlive the resources, as what has been spent does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from modelyard.engine.measure import Measure
from modelyard.engine.plan import Key

LABELS = ("kind", "project", "team")
Series = tuple[str, tuple[str, ...]]  # family and labels


class TotalsCollector(Collector):
    """Grows with each status that is written, by what that says more than the one before.

    So nothing has to be remembered of a resource, and an operator that is started again counts nothing twice: what it
    finds had been counted by the one before. Only a write whose answer never came is left out.
    """

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures = measures
        self._sums: dict[Series, float] = {}
        self._shown: dict[Series, float] = {}

    def add(
        self, key: Key, owner: tuple[str, str], before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """The resource's status `before` gave way to `after`."""
        measure = self._measures.get(key.kind)
        for sample in measure.count(before, after) if measure is not None else ():
            # Also of nothing: Prometheus' increase() knows no value before a series' first.
            series = (sample.family, (key.kind, *owner, *sample.labels))
            total = self._sums[series] = self._sums.get(series, 0.0) + sample.value
            # A counter must not fall: after a correction it stands still until the sum has caught up.
            self._shown[series] = max(self._shown.get(series, 0.0), total)

    def describe(self) -> Iterable[CounterMetricFamily]:
        """The families without samples."""
        return self._make_families().values()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """All series."""
        families = self._make_families()
        for (family, labels), value in list(self._shown.items()):
            families[family].add_metric(labels, value)
        yield from families.values()

    def _make_families(self) -> dict[str, CounterMetricFamily]:
        declared = [family for measure in self._measures.values() for family in measure.totals]
        return {
            family.name: CounterMetricFamily(family.name, family.text, labels=[*LABELS, *family.labels])
            for family in declared
        }
