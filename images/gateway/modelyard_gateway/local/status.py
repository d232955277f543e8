"""What the page shows: figures of this gateway at this moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelyard.contract.gateway import GatewayConfig

from modelyard_gateway.balance.servers import Fleet
from modelyard_gateway.telemetry.load import Load
from modelyard_gateway.telemetry.metrics import SECONDS, Metrics


class Status:
    """Counts since the gateway began; who shows them takes differences."""

    def __init__(
        self,
        config: GatewayConfig,
        fleet: Fleet,
        load: Load,
        metrics: Metrics,
        why_refusing: Callable[[], str | None],
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._load = load
        self._metrics = metrics
        self._why_refusing = why_refusing

    def __call__(self) -> dict[str, Any]:
        """As JSON. `buckets`: requests that were answered well, by `bounds` (seconds) of their latency."""
        return {
            "name": self._config.name,
            "task": self._fleet.task(),
            "speaks": max(self._fleet.spoken, default=""),
            "keys": self._config.keys,
            "trouble": self._why_refusing(),
            "queued": self._load.queued,
            "running": self._load.running,
            "requests": self._metrics.count(),
            "failed": self._metrics.count_failed(),
            "bounds": SECONDS,
            "buckets": self._metrics.latencies(),
            "cache": self._metrics.cache,
            "revisions": [
                {
                    "name": revision.name,
                    "weight": revision.weight,
                    "servers": len(revision.servers),
                    "running": sum(server.outstanding for server in revision.servers.values()),
                }
                for _, revision in sorted(self._fleet.revisions.items())
            ],
        }
