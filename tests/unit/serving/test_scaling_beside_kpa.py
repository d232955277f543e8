"""The decision beside KPA's published algorithm over the same seeded traces. Where it is worse is in
docs/design/2026-11-30-scaling.md; `make bench ARGS=scaling` prints all figures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.autoscaling import traces
from tests.autoscaling.kpa import Kpa
from tests.autoscaling.simulator import Result, Servers
from tests.autoscaling.traces import TARGET, Trace
from tests.bench.scaling import MOST, TRACES, least, modelyard, run
from tests.unit.serving.reference import mean_wait, replay

Make = Callable[[], Trace]
SERVERS = Servers()


@cache
def both(make: Make, delay: float) -> tuple[Result, Result]:
    """Modelyard's run and KPA's."""
    trace = make()
    ours = run(trace, modelyard(trace, SERVERS, delay), SERVERS)
    return ours, run(trace, Kpa(TARGET, MOST, least(trace), delay), SERVERS)


@pytest.mark.parametrize("delay", [0.0, 300.0])
@pytest.mark.parametrize("make", TRACES, ids=lambda make: make.__name__)
def test_replicas_change_no_more_often_and_every_request_is_served(make: Make, delay: float) -> None:
    ours, kpas = both(make, delay)
    assert len(ours.changes) <= len(kpas.changes)
    assert ours.most <= kpas.most
    assert len(ours.waits) == len(kpas.waits)


@pytest.mark.parametrize("make", TRACES, ids=lambda make: make.__name__)
def test_with_the_same_delay_fewer_replica_seconds_are_spent(make: Make) -> None:
    ours, kpas = both(make, 300.0)
    assert ours.replica_seconds < kpas.replica_seconds


def test_capacity_meets_a_step_as_soon() -> None:
    ours, kpas = both(traces.step, 0.0)
    assert ours.seconds_to_capacity[0] <= kpas.seconds_to_capacity[0]
    ours, kpas = both(traces.half_step, 0.0)
    assert ours.seconds_to_capacity[0] < kpas.seconds_to_capacity[0]


def test_a_step_takes_no_more_changes_than_looks_that_still_learn() -> None:
    ours, _ = both(traces.step, 300.0)
    up = [at for at, _ in ours.changes if 120 <= at < 480]
    assert len([at for at in up if at < 420]) <= 2


def test_noise_of_ten_percent_on_top_of_chance_changes_nothing() -> None:
    for delay in (0.0, 300.0):
        ours, kpas = both(traces.noise, delay)
        assert len(ours.changes) == 1
        assert len(kpas.changes) > 1, "or the trace shows nothing"


def test_the_simulator_agrees_with_a_queue_worked_out_by_hand() -> None:
    """A constant number of servers, first come first served: each request takes the slot that is free first."""

    class Constant:
        def look(self, load: object, present: object, now: float) -> tuple[int, float | None]:
            return 2, 2.0

    trace = traces.bursts(1.0)
    constant = Trace("constant", trace.seconds, trace.arrivals, start=2)
    result = run(constant, Constant(), SERVERS)
    assert sum(result.waits) / len(result.waits) == pytest.approx(mean_wait(replay(trace.arrivals, 20)))
    assert result.replica_seconds == pytest.approx(2 * trace.seconds)
