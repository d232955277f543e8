"""Every metric of the operator.

Names, labels and meaning, in one place. Counters of work are named as client-go's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from modelyard.engine.measure import Measure
from modelyard.engine.plan import Key, Manifest
from modelyard.telemetry.owners import Owners
from modelyard.telemetry.resources import ResourceCollector
from modelyard.telemetry.totals import TotalsCollector

QUEUE = "reconcile"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The metrics of one operator, in a registry of its own, so that one process can hold several."""

    def __init__(
        self,
        measures: Mapping[str, Measure] | None = None,
        find: Callable[[Key], Manifest | None] = lambda key: None,
    ) -> None:
        """`measures` are those of single resources, by kind; `find` gives a resource as it is now."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=self.registry, buckets=_SECONDS)

        self._depth = gauge("workqueue_depth", "Keys that wait for a worker.", "name").labels(QUEUE)
        self._adds = counter("workqueue_adds_total", "Keys put into the queue.", "name").labels(QUEUE)
        self._retries = counter("workqueue_retries_total", "Keys put back after a failure.", "name").labels(
            QUEUE
        )
        self._waited = histogram("workqueue_queue_duration_seconds", "Time a key waited.", "name").labels(
            QUEUE
        )
        self._worked = histogram("workqueue_work_duration_seconds", "Time a pass took.", "name").labels(QUEUE)
        self.unfinished = gauge(
            "workqueue_unfinished_work_seconds", "Time that running passes have taken so far, summed.", "name"
        ).labels(QUEUE)
        self.longest = gauge(
            "workqueue_longest_running_processor_seconds",
            "Time that the slowest running pass has taken so far.",
            "name",
        ).labels(QUEUE)

        self._passes = counter("modelyard_reconciles_total", "Passes, by how they ended.", "kind", "outcome")
        self._pass_seconds = histogram("modelyard_reconcile_seconds", "Time a pass took.", "kind")
        self._writes = counter("modelyard_writes_total", "Writes of the engine.", "kind", "operation")
        self._refusals = counter(
            "modelyard_refused_writes_total", "Statuses that the API server refused.", "kind", "operation"
        )
        self._calls = counter(
            "modelyard_api_requests_total", "Calls of the API server.", "method", "resource", "code"
        )
        self._call_seconds = histogram("modelyard_api_request_seconds", "Time a call took.", "method")
        self._throttled = counter("modelyard_api_throttled_total", "Answers that asked to slow down.")
        self._probes = counter(
            "modelyard_probes_total", "Questions to pods and to the API server, by result.", "result"
        )
        self._probed = gauge("modelyard_probes_active", "Pods that are asked for progress.")
        self._probe_interval = gauge(
            "modelyard_probe_interval_seconds", "Time between two questions to one pod."
        )
        self._computed = histogram(
            "modelyard_computation_seconds", "Time that a computed answer took, by result.", "result"
        )
        self._leader = gauge("modelyard_leader", "1 while this process holds the Lease.")
        self._synced = gauge(
            "modelyard_cache_synced", "1 once everything of the kind is in the cache.", "kind"
        )
        self._cached = gauge("modelyard_cache_objects", "Objects in the cache.", "kind")
        self._missed = counter("modelyard_watch_missed_total", "Deletions that a watch had missed.", "kind")
        self._resources = gauge(
            "modelyard_resources", "Custom resources, by phase and owner.", "kind", "phase", "project", "team"
        )
        self._single = ResourceCollector(measures or {}, find)
        self.registry.register(self._single)
        self._totals = TotalsCollector(measures or {})
        self.registry.register(self._totals)
        self._children: dict[tuple[Any, ...], Any] = {}
        self._census: dict[Any, tuple[str, str, str, str]] = {}
        self._owners = Owners()
        # increase() knows no value before a series' first: the alert would miss the first refusal.
        for kind in measures or {}:
            self._child(self._refusals, kind, "status")

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def _child(self, metric: Any, *labels: str) -> Any:
        """The metric with these labels. Looked up once: prometheus_client checks and locks each time."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    # The queue (engine.queue.QueueMetrics)

    def added(self) -> None:
        """A key came in that was not waiting already."""
        self._adds.inc()

    def depth(self, waiting: int) -> None:
        """So many keys wait."""
        self._depth.set(waiting)

    def started(self, waited: float) -> None:
        """A worker took a key."""
        self._waited.observe(waited)

    def finished(self, worked: float) -> None:
        """The worker is done with it."""
        self._worked.observe(worked)

    def retried(self) -> None:
        """A key was put back after a failure."""
        self._retries.inc()

    # The engine (engine.ports.Observer)

    def reconciled(self, key: Any, seconds: float, outcome: str) -> None:
        """A pass ended."""
        self._child(self._passes, key.kind, outcome).inc()
        self._child(self._pass_seconds, key.kind).observe(seconds)

    def wrote(self, kind: str, operation: str) -> None:
        """The engine made a call."""
        self._child(self._writes, kind, operation).inc()

    def refused(self, kind: str, operation: str) -> None:
        """The API server said no to a write of the engine's own."""
        self._child(self._refusals, kind, operation).inc()

    def holds(self, key: Any, resource: Manifest | None) -> None:
        """The present state of a custom resource; None once it is gone."""
        self._single.hold(key, resource)
        old = self._census.pop(key, None)
        new = self._classify(key.kind, resource) if resource is not None else None
        if new is not None:
            self._census[key] = new
        if old == new:
            return
        if old is not None:
            self._resources.labels(*old).dec()
        if new is not None:
            self._resources.labels(*new).inc()

    def reported(self, key: Key, resource: Manifest, status: Mapping[str, Any]) -> None:
        """A status was written in place of the one that the resource had."""
        self._totals.add(key, self._owners.find(resource), resource.get("status") or {}, status)

    def _classify(self, kind: str, resource: Manifest) -> tuple[str, str, str, str]:
        status = resource.get("status") or {}
        return (kind, status.get("phase") or _sum_up(status), *self._owners.find(resource))

    # The edge

    def called(self, method: str, resource: str, code: int, seconds: float) -> None:
        """The API server answered; code 0 stands for no answer."""
        self._child(self._calls, method, resource, str(code)).inc()
        self._child(self._call_seconds, method).observe(seconds)
        if code == 429:
            self._throttled.inc()

    def probed(self, result: str) -> None:
        """Somebody was asked: `changed`, `same`, `failed`."""
        self._probes.labels(result).inc()

    def probing(self, probes: int, interval: float) -> None:
        """So many pods are asked, each every `interval` seconds unless it has an interval of its own."""
        self._probed.set(probes)
        self._probe_interval.set(interval)

    def computed(self, result: str, seconds: float) -> None:
        """A question was computed: `answer`, `error`."""
        self._computed.labels(result).observe(seconds)

    def leads(self, held: bool) -> None:
        """Whether the Lease is held."""
        self._leader.set(held)

    def synced(self, kind: str, complete: bool) -> None:
        """Whether everything of the kind is in the cache."""
        self._synced.labels(kind).set(complete)

    def cached(self, kind: str, objects: int) -> None:
        """So many objects of the kind are in the cache."""
        self._cached.labels(kind).set(objects)

    def missed(self, kind: str) -> None:
        """A watch had missed a deletion."""
        self._missed.labels(kind).inc()


def _sum_up(status: Mapping[str, Any]) -> str:
    """A word for kinds without a phase, by kstatus' conditions."""
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    return "Failed" if "Stalled" in true else "Ready" if "Ready" in true else "Pending"
