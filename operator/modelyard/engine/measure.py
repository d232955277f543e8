"""What a feature measures of each of its resources: the same for every kind, so that no metric is wired by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.engine.plan import Manifest


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, as Prometheus names it.

    `labels` come on top of the resource's namespace and name; of a total, on top of kind, project and team.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of the family of that name. `labels` are its labels' values, in their order."""

    family: str
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """`is_live` says, after every pass, whether a resource has series: no more once it is over.

    `read` makes the samples of one that has, whenever Prometheus asks, maybe in another thread. It must not raise for
    anything a status can hold, and give few samples: what users or pods name (a metric, a resource) must be bounded by
    the status' own schema.

    `totals` are counters over all resources of a kind, by project and team; `count` says by how much they grow when one
    status takes the place of another. The same holds for it.
    """

    families: tuple[Family, ...]
    is_live: Callable[[Manifest], bool]
    read: Callable[[Manifest], Iterable[Sample]]
    totals: tuple[Family, ...] = ()
    count: Callable[[Mapping[str, Any], Mapping[str, Any]], Iterable[Sample]] = lambda before, after: ()
