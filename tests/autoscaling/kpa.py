"""Knative's Pod Autoscaler as its documentation tells it, written anew: knative.dev, "Additional autoscaling
configuration for Knative Pod Autoscaler" and "Configuring scale to zero", and the comments of its ConfigMap.

Where the documents leave a choice, the one that is better for KPA was taken: its panic threshold is compared with the
load itself rather than with the load rounded up to pods, and it sees queued requests at once, wherever they wait.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from modelyard.serving.scaling import Load, Present

TICK_SECONDS = 2.0
STABLE_SECONDS = 60.0
PANIC_THRESHOLD = 2.0
MAX_SCALE_UP_RATE = 1000.0
MAX_SCALE_DOWN_RATE = 2.0
GRACE_SECONDS = 30.0


@dataclass
class Kpa:
    """target: concurrency per pod. delay_seconds: scale-down-delay, 0 by default."""

    target: float
    max_replicas: int
    min_replicas: int = 0
    delay_seconds: float = 0.0
    panicked_at: float | None = None
    most_in_panic: int = 0
    wishes: deque[tuple[float, int]] = field(default_factory=deque)
    zero_since: float | None = None

    def look(self, load: Load, present: Present, now: float) -> tuple[int, float | None]:
        """One tick."""
        ready = max(1, present.ready)
        stable = self._limit(load.stable.work / self.target, ready)
        panic = self._limit(load.panic.work / self.target, ready)
        if load.panic.work / self.target >= PANIC_THRESHOLD * ready:
            self.panicked_at = now
        elif self.panicked_at is not None and now - self.panicked_at > STABLE_SECONDS:
            self.panicked_at, self.most_in_panic = None, 0
        wish = stable
        if self.panicked_at is not None:
            self.most_in_panic = max(self.most_in_panic, stable, panic)
            wish = self.most_in_panic
        if present.replicas == 0 and load.busy:
            wish = max(1, wish)
        wish = self._delay(wish, now)
        return self._zero(max(self.min_replicas, min(self.max_replicas, wish)), present, now), TICK_SECONDS

    def _limit(self, pods: float, ready: int) -> int:
        """One pod more or less is always allowed."""
        most = max(math.ceil(MAX_SCALE_UP_RATE * ready), ready + 1)
        fewest = min(math.floor(ready / MAX_SCALE_DOWN_RATE), ready - 1)
        return max(fewest, min(most, math.ceil(pods - 1e-9)))

    def _delay(self, wish: int, now: float) -> int:
        """The highest wish within the delay."""
        self.wishes.append((now, wish))
        while self.wishes[0][0] < now - self.delay_seconds:
            self.wishes.popleft()
        return max(w for _, w in self.wishes)

    def _zero(self, wish: int, present: Present, now: float) -> int:
        """The last pod stays for the grace period."""
        if wish > 0 or present.replicas == 0:
            self.zero_since = None
            return wish
        self.zero_since = self.zero_since if self.zero_since is not None else now
        return 0 if now - self.zero_since >= GRACE_SECONDS else 1
