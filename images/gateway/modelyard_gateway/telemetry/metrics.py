"""The gateway's metrics. Counted in plain numbers; Prometheus' forms are made when it asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# Outcomes of requests.
OK = "ok"  # answered, 1xx to 3xx
REFUSED = "refused"  # answered 4xx, by a server or by the gateway
ERROR = "error"  # answered 5xx by a server
UNAVAILABLE = "unavailable"  # 503 by the gateway: no server, no room, or suspended
UNREADY = "unready"  # the same, to who only looked
TIMEOUT = "timeout"  # a server did not answer in time
BROKEN = "broken"  # a server broke off
GONE = "gone"  # the caller hung up

_FAILED = frozenset((ERROR, UNAVAILABLE, TIMEOUT, BROKEN))

# Why requests got a 503 of the gateway's own.
FULL = "full"  # too many waited already
NO_ROOM = "no_room"  # all servers were busy until its time was up
NO_SERVER = "no_server"  # there was none until its time was up
UNREACHABLE = "unreachable"  # those that there were could not be reached until its time was up
STOPPING = "stopping"  # the gateway ended
SUSPENDED = "suspended"

NO_REVISION = ""  # answered by the gateway
_REVISIONS = 32  # those that were seen first make room for others, unless they are still followed
_OTHERS = "others"


class Series:
    """Requests of one revision and outcome."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS) + 1)
        self.seconds = 0.0

    def see(self, seconds: float) -> None:
        """One more."""
        self.buckets[bisect_left(SECONDS, seconds)] += 1
        self.seconds += seconds

    def add(self, other: Series) -> None:
        """All of another's, too."""
        self.buckets = [one + more for one, more in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds


class Metrics(Collector):
    """All series. Labels have few values: revisions (32 at most, those beyond as one) and outcomes.

    followed: revisions that there are.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self.retries: dict[str, int] = {"connect": 0, "reset": 0, "busy": 0}
        self.cache: dict[str, int] = {"hit": 0, "miss": 0, "shared": 0}
        # All from the start: Prometheus' increase() knows no value before a series' first.
        self.unavailable = dict.fromkeys((FULL, NO_ROOM, NO_SERVER, UNREACHABLE, STOPPING, SUSPENDED), 0)
        self.limited = 0
        self._series: dict[tuple[str, str], Series] = {}
        self.followed: Container[str] = ()
        self._revisions: dict[str, None] = {}
        self._past: dict[str, Series] = {}  # of revisions that made room, by outcome
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._opened = 0

    def see(self, revision: str, outcome: str, seconds: float) -> None:
        """A request ended."""
        series = self._series.get((revision, outcome))
        if series is None:
            if (
                revision not in self._revisions
                and len(self._revisions) >= _REVISIONS
                and not self._make_room()
            ):
                revision = _OTHERS
            self._revisions[revision] = None
            series = self._series.setdefault((revision, outcome), Series())
        series.see(seconds)

    def _make_room(self) -> bool:
        """Forgets the first revision that isn't followed any more, but not that its requests were."""
        kept = (NO_REVISION, _OTHERS)
        gone = next(
            (name for name in self._revisions if name not in self.followed and name not in kept), None
        )
        if gone is None:
            return False
        del self._revisions[gone]
        for key in [key for key in self._series if key[0] == gone]:
            self._past.setdefault(key[1], Series()).add(self._series.pop(key))
        return True

    def opened(self) -> None:
        """A connection to a server was made."""
        self._opened += 1

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """A number that is read when Prometheus asks."""
        self._gauges.append((f"modelyard_gateway_{name}", about, read))

    def latencies(self) -> list[int]:
        """Requests that were answered well, by the buckets of SECONDS."""
        every = [
            series.buckets
            for revision, outcome, series in self._every()
            if revision != NO_REVISION and outcome == OK
        ]
        return [sum(column) for column in zip(*every, strict=True)] or [0] * (len(SECONDS) + 1)

    def count(self) -> int:
        """Requests that ended and were meant for a server."""
        return sum(
            sum(series.buckets)
            for revision, outcome, series in self._every()
            if revision != NO_REVISION or outcome in _FAILED
        )

    def count_failed(self) -> int:
        """Those that ended without an answer, or with a server's error."""
        return sum(sum(series.buckets) for _, outcome, series in self._every() if outcome in _FAILED)

    def _every(self) -> Iterator[tuple[str | None, str, Series]]:
        """By revision (None: of the past) and outcome."""
        for (revision, outcome), series in self._series.items():
            yield revision, outcome, series
        for outcome, series in self._past.items():
            yield None, outcome, series

    def collect(self) -> Iterator[Metric]:
        """Of Prometheus' collectors."""
        prefix = "modelyard_gateway_"
        labels = ("revision", "outcome")
        requests = CounterMetricFamily(prefix + "requests", "Requests that ended.", labels=labels)
        durations = HistogramMetricFamily(
            prefix + "request_duration_seconds",
            "From a request's head to the end of its answer.",
            labels=labels,
        )
        for key, series in self._series.items():
            count, buckets = 0, []
            for bound, number in zip((*map(str, SECONDS), "+Inf"), series.buckets, strict=True):
                count += number
                buckets.append((bound, count))
            requests.add_metric(key, count)
            durations.add_metric(key, buckets, series.seconds)
        yield requests
        yield durations
        yield _count_by(
            "reason",
            self.retries,
            prefix + "retries",
            "Requests that were sent again: it could not be reached, broke off before its answer, or was busy (503).",
        )
        yield _count_by(
            "result",
            self.cache,
            prefix + "cache_requests",
            "Requests whose answer may be kept: hit, miss, or shared with another that was under way.",
        )
        yield _count_by(
            "reason",
            self.unavailable,
            prefix + "unavailable",
            "Requests that got no server and were answered 503, by why.",
        )
        yield CounterMetricFamily(
            prefix + "rate_limited", "Requests refused by the rate limit.", value=self.limited
        )
        yield CounterMetricFamily(
            prefix + "upstream_connects", "Connections made to servers.", value=self._opened
        )
        for name, about, read in self._gauges:
            yield GaugeMetricFamily(name, about, value=read())

    def render(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


def _count_by(label: str, numbers: Mapping[str, int], name: str, about: str) -> CounterMetricFamily:
    """A counter with one label."""
    family = CounterMetricFamily(name, about, labels=(label,))
    for value, number in numbers.items():
        family.add_metric((value,), number)
    return family
