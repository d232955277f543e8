"""Replicas over the same traces, by the product's decision and by KPA's published algorithm, in simulation: a replica
is ready 20 s after it was wished for, runs 10 requests of a second at once, and is aimed at 7; at most 20 replicas.
"""

from __future__ import annotations

from typing import Any

from modelyard.serving.scaling import ScalingConfig

from tests.autoscaling import traces
from tests.autoscaling.kpa import Kpa
from tests.autoscaling.simulator import Modelyard, Result, Scaler, Servers, Simulation
from tests.autoscaling.traces import TARGET, Trace
from tests.bench.sections import Rows

TITLE = "Replicas over the same traces: Modelyard and KPA's published algorithm"
MOST = 20
SERVICE_SECONDS = 1.0
DEADLINE_SECONDS = 10.0
TRACES = (
    traces.step, traces.half_step, traces.ramp, traces.bursts, traces.recorded, traces.noise, traces.on_off
)  # fmt: skip


def least(trace: Trace) -> int:
    """Only a trace that begins with none goes to zero."""
    return min(1, trace.start)


def modelyard(trace: Trace, servers: Servers, delay: float, measured: bool = True) -> Modelyard:
    """`measured`: the build has told what it knows of the servers."""
    known: dict[str, float] = {}
    if measured:
        known = {
            "limit": servers.limit,
            "service_seconds": SERVICE_SECONDS,
            "start_seconds": servers.start_seconds,
        }
    return Modelyard(ScalingConfig(TARGET, MOST, least(trace), delay_seconds=delay, idle_seconds=60, **known))


def run(trace: Trace, scaler: Scaler, servers: Servers) -> Result:
    """One scaler over one trace."""
    return Simulation(
        scaler, trace.arrivals, trace.seconds, servers, trace.start, trace.rises, trace.counted_from
    ).run()


def describe(result: Result, trace: Trace) -> dict[str, Any]:
    """Figures of one run. to_capacity_s: from the rise until enough replicas were ready."""
    late = trace.rises and not result.seconds_to_capacity
    return {
        "to_capacity_s": "was there"
        if late
        else round(result.seconds_to_capacity[0])
        if trace.rises
        else None,
        "replica_s": round(result.replica_seconds),
        "p95_wait_s": round(result.percentile(0.95), 1),
        f"waits>{DEADLINE_SECONDS:.0f}s": result.later_than(DEADLINE_SECONDS),
        "requests": len(result.waits),
        "changes": len(result.changes) - 1,
        "reversals": result.reversals,
        "most": result.most,
    }


def measure(rows: Rows) -> None:
    """Each trace with the shortest scale-down delay, KPA's default, and with five minutes, Modelyard's."""
    servers = Servers()
    for make in TRACES:
        trace = make(SERVICE_SECONDS)
        for delay in (0.0, 300.0):
            scalers: dict[str, Scaler] = {
                "KPA": Kpa(TARGET, MOST, least(trace), delay),
                "Modelyard": modelyard(trace, servers, delay),
                "Modelyard, unmeasured": modelyard(trace, servers, delay, measured=False),
            }
            for name, scaler in scalers.items():
                with rows.measure(trace=trace.name, delay_s=round(delay), scaler=name) as row:
                    row |= describe(run(trace, scaler, servers), trace)
                    if isinstance(scaler, Modelyard):
                        row["state_writes"] = scaler.writes
