"""What a user decides about scaling, and what the build has measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """target: requests in flight per replica, above 0, may be a fraction.
    delay_seconds: replicas go only when none of the wishes within it asked for them; a stable window at least.
    idle_seconds: without any work, before the last replica goes (min_replicas 0).
    What is known of the servers, by the build's measurements or by what they did before: limit, requests that a
    replica runs at once at most (its knee; else the target is taken for it); service_seconds, how long a request takes
    at a server, counts until the gateways have seen requests end; start_seconds, from a replica's wish until it is
    ready.

    Raises ValueError for bounds that exclude each other, and for a target that isn't above 0.
    """

    target: float
    max_replicas: int
    min_replicas: int = 0
    delay_seconds: float = 300.0
    idle_seconds: float = 300.0
    limit: float | None = None
    service_seconds: float | None = None
    start_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ValueError(
                f"minReplicas {self.min_replicas} and maxReplicas {self.max_replicas} leave no number of replicas"
            )
        if not self.target > 0:
            raise ValueError(f"target is {self.target}; it must be above 0")

    def clamp(self, replicas: int) -> int:
        """The nearest number of replicas that is allowed."""
        return max(self.min_replicas, min(self.max_replicas, replicas))
