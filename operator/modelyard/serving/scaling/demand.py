"""How many requests in flight a load asks room for, and how many replicas that is."""

from __future__ import annotations

import math

from modelyard.contract.load import Window
from modelyard.serving.scaling.config import ScalingConfig
from modelyard.serving.scaling.load import Load

# A queue need not have a slot for each of its requests; it should be gone within so many seconds.
DRAIN_SECONDS = 10.0


def in_window(window: Window, queued: int, config: ScalingConfig, start_seconds: float) -> float:
    """Replicas (a fraction) that the load of this window asks for. New ones are there in `start_seconds`.

    What runs is the load as long as nothing queues. Where something does, what runs is what the servers can do, and the
    queue is what they could not: it grows for as long as a replica takes to start, and to take all of it for load, as
    autoscalers do that know no more than a number, asks for many times the replicas that are needed. So the load is what
    arrives, for as long as it stays (Little's law), and room to empty soon the queue that there will be; never more
    than what is really there.
    """
    service = _service_seconds(window, config)
    if service is None:
        return window.work / config.target
    flow = max(window.running, window.arrival_rate * service)
    queue = queued + max(0.0, window.arrival_rate - window.finish_rate) * start_seconds
    return min(window.work / config.target, _replicas(flow, queue, service, config))


def at_once(load: Load, config: ScalingConfig) -> float:
    """Replicas that the requests which are there now ask for. For when no server is ready, so that all of them wait."""
    service = _service_seconds(load.panic, config)
    if service is None:
        return (load.running + load.queued) / config.target
    return _replicas(load.running, load.queued, service, config)


def whole(replicas: float) -> int:
    """The next whole number; what floating point added is no replica."""
    return math.ceil(replicas - 1e-9)


def _replicas(flow: float, queue: float, service: float, config: ScalingConfig) -> float:
    """So many that the flow finds them at their target, or, if that is more, at their limit with the queue."""
    slots = flow + queue * min(1.0, service / DRAIN_SECONDS)
    return max(flow / config.target, slots / max(config.target, config.limit or 0.0))


def _service_seconds(window: Window, config: ScalingConfig) -> float | None:
    """How long a request is at a server; None where nothing tells."""
    if window.finish_rate > 0:
        return window.running / window.finish_rate
    return config.service_seconds
