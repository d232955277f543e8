"""Discrete events: requests arrive, wait in the gateway, run at a replica; a scaler looks and changes the replicas.

Windows are measured by the product's own LoadMeter, which has its test against a reference.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

from modelyard.contract.load import LoadMeter
from modelyard.serving.scaling import Load, Present, ScalingConfig, ScalingState, decide, total

# A clock as a server's: Unix seconds.
EPOCH = 1.8e9
LONGEST_TAIL = 3600.0


class Scaler(Protocol):
    """Looks at the load and says how many replicas there should be, and in how many seconds it looks again."""

    def look(self, load: Load, present: Present, now: float) -> tuple[int, float | None]: ...


@dataclass
class Modelyard:
    """The product's decision. Its state goes through JSON with every look, as if the operator began anew each time."""

    config: ScalingConfig
    written: str = "{}"
    writes: int = 0
    reasons: list[str] = field(default_factory=list)

    def look(self, load: Load, present: Present, now: float) -> tuple[int, float | None]:
        state = ScalingState.from_json(json.loads(self.written))
        decision = decide(load, state, self.config, present, now)
        written = json.dumps(decision.state.to_json())
        self.writes += written != self.written
        self.written = written
        if not self.reasons or self.reasons[-1] != decision.reason:
            self.reasons.append(decision.reason)
        return decision.replicas, decision.look_in


@dataclass(frozen=True)
class Servers:
    """start_seconds: from a replica's wish until it is ready. limit: requests that it runs at once."""

    start_seconds: float = 20.0
    limit: int = 10


@dataclass
class Result:
    """seconds_to_capacity: from each of the trace's rises until as many replicas were ready as it needs.
    changes: of the wanted replicas, as (second, replicas). waits: seconds of each request in the gateway.
    """

    replica_seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)
    seconds_to_capacity: list[float] = field(default_factory=list)
    most: int = 0
    looks: int = 0

    def percentile(self, share: float) -> float:
        """Waiting seconds that this share of the requests did not exceed."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def later_than(self, seconds: float) -> int:
        """Requests that waited longer."""
        return sum(wait > seconds for wait in self.waits)

    @property
    def reversals(self) -> int:
        """Changes that went another way than the one before: flaps, beyond what the load did."""
        sizes = [replicas for _, replicas in self.changes]
        ways = [b > a for a, b in pairwise(sizes)]
        return sum(a != b for a, b in pairwise(ways))


@dataclass
class _Replica:
    wanted_at: float
    running: int = 0
    ready: bool = False
    leaving: bool = False


class Simulation:
    """One run. `arrivals`: (second, seconds at the server) of each request, in order; `rises`: (second, replicas) that
    the load needs from then on. What was before `counted_from` is no part of the result.
    """

    def __init__(
        self,
        scaler: Scaler,
        arrivals: Sequence[tuple[float, float]],
        seconds: float,
        servers: Servers | None = None,
        replicas: int = 1,
        rises: Sequence[tuple[float, int]] = (),
        counted_from: float = 0.0,
    ) -> None:
        self.scaler, self.servers = scaler, servers or Servers()
        self.arrivals, self.seconds = arrivals, seconds
        self.wanted = replicas
        self.replicas = [_Replica(0.0, ready=True) for _ in range(replicas)]
        self.queue: deque[tuple[float, float]] = deque()
        self.running = 0
        # At zero it has seen a stable window without work.
        self.meter = LoadMeter(0.0 if replicas else -60.0)
        self.counted_from = counted_from
        self.events: list[tuple[float, int, str, _Replica | None]] = []
        self.count = 0
        self.next_look: float | None = None
        self.rises = list(rises)
        self.result = Result(changes=[(0.0, replicas)], most=replicas)

    def run(self) -> Result:
        """Runs until the trace has ended and every request was served, an hour later at most."""
        self._look_at(2.0 if self.wanted else 0.0)
        position = 0
        while True:
            arrives = self.arrivals[position][0] if position < len(self.arrivals) else float("inf")
            happens = self.events[0][0] if self.events else float("inf")
            now = min(arrives, happens)
            if now >= self.seconds and (
                not (self.queue or self.running) or now > self.seconds + LONGEST_TAIL
            ):
                break
            if arrives <= happens:
                self.queue.append(self.arrivals[position])
                position += 1
                self._serve(now, arrived=1)
                # What an activator or a gateway does: the first request at zero is told at once.
                if self.wanted == 0 or self.next_look is None:
                    self._look(now)
            else:
                _, _, what, replica = heapq.heappop(self.events)
                self._happen(now, what, replica)
        end = max(self.seconds, now if self.queue or self.running else 0.0)
        self.result.waits += [end - at for at, _ in self.queue]
        for replica in list(self.replicas):
            self._remove(replica, self.seconds)
        return self.result

    def _happen(self, now: float, what: str, replica: _Replica | None) -> None:
        if what == "look":
            if self.next_look == now:
                self._look(now)
            return
        assert replica is not None
        if what == "ready":
            replica.ready = replica in self.replicas
            ready = self._count_ready()
            while self.rises and self.rises[0][0] <= now and ready >= self.rises[0][1]:
                self.result.seconds_to_capacity.append(now - self.rises.pop(0)[0])
            self._serve(now)
        else:
            replica.running -= 1
            self.running -= 1
            self._serve(now, finished=1)
            if replica.leaving and not replica.running:
                self._remove(replica, now)

    def _serve(self, now: float, arrived: int = 0, finished: int = 0) -> None:
        while self.queue:
            free = [r for r in self.replicas if r.ready and not r.leaving and r.running < self.servers.limit]
            if not free:
                break
            replica = min(free, key=lambda r: r.running)
            at, service = self.queue.popleft()
            if at >= self.counted_from:
                self.result.waits.append(now - at)
            replica.running += 1
            self.running += 1
            self._later(now + service, "finish", replica)
        self.meter.update(now, len(self.queue), self.running, arrived, finished)

    def _look(self, now: float) -> None:
        self.result.looks += 1
        load = total([self.meter.report(now)], 1)
        wanted, look_in = self.scaler.look(load, Present(self.wanted, self._count_ready()), EPOCH + now)
        if wanted != self.wanted:
            if now < self.counted_from:
                self.result = replace(self.result, changes=[(now, wanted)], most=wanted)
            else:
                self.result.changes.append((now, wanted))
                self.result.most = max(self.result.most, wanted)
            self._scale(wanted, now)
        self.next_look = None
        if look_in is not None:
            self._look_at(now + look_in)

    def _scale(self, wanted: int, now: float) -> None:
        self.wanted = wanted
        there = [r for r in self.replicas if not r.leaving]
        for _ in range(wanted - len(there)):
            replica = _Replica(now)
            self.replicas.append(replica)
            self._later(now + self.servers.start_seconds, "ready", replica)
        # As a ReplicaSet does: those that are not ready go first, and then here those with the least to do.
        for replica in sorted(there, key=lambda r: (r.ready, r.running))[: max(0, len(there) - wanted)]:
            replica.leaving = True
            if not replica.running:
                self._remove(replica, now)

    def _remove(self, replica: _Replica, now: float) -> None:
        self.replicas.remove(replica)
        begin, end = max(replica.wanted_at, self.counted_from), min(now, self.seconds)
        self.result.replica_seconds += max(0.0, end - begin)

    def _count_ready(self) -> int:
        return sum(r.ready and not r.leaving for r in self.replicas)

    def _look_at(self, at: float) -> None:
        self.next_look = at
        self._later(at, "look", None)

    def _later(self, at: float, what: str, replica: _Replica | None) -> None:
        self.count += 1
        heapq.heappush(self.events, (at, self.count, what, replica))
