"""Series of single resources: collected when Prometheus asks, gone with the resource's end, and bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from modelyard.engine.measure import Measure
from modelyard.engine.plan import Key, Manifest

# Each has some twenty series; whoever runs more at once sees the sums only.
LIMIT = 1000
_UNMEASURED = "modelyard_unmeasured_resources"


class ResourceCollector(Collector):
    """Knows which resources are live, at most LIMIT of them; `find` gives their present states.

    They are read when they are asked for: a pass costs nothing for it, and what is at rest stays packed.
    """

    def __init__(
        self, measures: Mapping[str, Measure], find: Callable[[Key], Manifest | None], limit: int = LIMIT
    ) -> None:
        self._measures = measures
        self._find = find
        self._limit = limit
        self._live: dict[Key, None] = {}
        self._left_out: set[Key] = set()

    def hold(self, key: Key, resource: Manifest | None) -> None:
        """The resource's present state; None once it is gone."""
        measure = self._measures.get(key.kind)
        if measure is None:
            return
        self._left_out.discard(key)
        if resource is None or not measure.is_live(resource):
            self._live.pop(key, None)
        elif key in self._live or len(self._live) < self._limit:
            self._live[key] = None
        else:
            self._left_out.add(key)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The families without samples: the registry then need not collect to know the names."""
        return self._make_families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All series."""
        families = self._make_families()
        for key in list(self._live):
            resource = self._find(key)
            for sample in self._measures[key.kind].read(resource) if resource is not None else ():
                families[sample.family].add_metric([key.namespace, key.name, *sample.labels], sample.value)
        families[_UNMEASURED].add_metric([], len(self._left_out))
        yield from families.values()

    def _make_families(self) -> dict[str, GaugeMetricFamily]:
        declared = [family for measure in self._measures.values() for family in measure.families]
        families = {
            family.name: GaugeMetricFamily(
                family.name, family.text, labels=["namespace", "name", *family.labels]
            )
            for family in declared
        }
        text = f"Resources beyond the {self._limit} that have series of their own."
        families[_UNMEASURED] = GaugeMetricFamily(_UNMEASURED, text, labels=[])
        return families
