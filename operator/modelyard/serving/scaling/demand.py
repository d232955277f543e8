"""How many requests in flight a load asks room for, and how many replicas that is."""

from __future__ import annotations

import math

from modelyard.contract.load import Window
from modelyard.serving.scaling.config import ScalingConfig
from modelyard.serving.scaling.load import Load

# A queue need not have a slot for each of its requests; it should be gone within so many seconds.
DRAIN_SECONDS = 10.0


def in_window(window: Window, queue: float, service: float | None, config: ScalingConfig) -> float:
    """Replicas (a fraction) that the load of this window asks for, beside a queue of so many requests. `service`: as of
    service_seconds.

    What runs is the load as long as nothing queues. Where something does, what runs is what the servers can do, and the
    queue is what they could not: it grows for as long as a replica takes to start, and whoever takes all of it for
    load, knowing no more than a number, asks for many times the replicas that are needed. So the load is what arrives,
    for as long as it stays (Little's law), and room to empty the queue soon; never more than what is there.
    """
    if service is None:
        return window.work / config.target
    asked = _replicas(window.arrival_rate * service, window.running, queue, service, config)
    return min(window.work / config.target, asked)


def service_seconds(load: Load, config: ScalingConfig) -> float | None:
    """How long a request is at a server; None where nothing tells."""
    if load.stable.finish_rate > 0:
        return load.stable.running / load.stable.finish_rate
    return config.service_seconds


def queue_then(load: Load, seconds: float) -> float:
    """Requests that will be queued in so many seconds, if it goes on as in the panic window."""
    return load.queued + max(0.0, load.panic.arrival_rate - load.panic.finish_rate) * seconds


def at_once(load: Load, config: ScalingConfig) -> float:
    """Replicas that the requests which are there now ask for. For when no server is ready, so that all of them wait."""
    service = service_seconds(load, config)
    if service is None:
        return (load.running + load.queued) / config.target
    return _replicas(0.0, load.running, load.queued, service, config)


def whole(replicas: float) -> int:
    """The next whole number; what floating point added is no replica."""
    return math.ceil(replicas - 1e-9)


def _replicas(flow: float, running: float, queue: float, service: float, config: ScalingConfig) -> float:
    """So many that the flow finds them at their target; but at their limit what runs and waits."""
    limit = max(config.target, config.limit or 0.0)
    slots = max(running, flow + queue * min(1.0, service / DRAIN_SECONDS))
    return max(flow / config.target, slots / limit)
