"""What the gateways tell: the load that they have, and the weights that they follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelyard.contract import codes, reading
from modelyard.contract.gateway import GatewayReport, WindowReport
from modelyard.contract.load import LoadReport, Window
from modelyard.engine.plan import Manifest, Seen
from modelyard.engine.probe import Probe
from modelyard.serving import names
from modelyard.serving.children import gateways
from modelyard.serving.scaling import Load, total
from modelyard.workloads.pods import podstate

PATH = "/v1/load"
# While there is work, or a change is under way.
BUSY_SECONDS = 2.0
# At rest the question is held until there is something to tell, or for so long.
REST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reports:
    """`load` is the sum of those that answer, `followed` has their weights."""

    pods: tuple[Manifest, ...] = ()
    load: Load = field(default_factory=Load)
    followed: tuple[Mapping[str, int], ...] = ()


def find_pods(seen: Seen) -> tuple[Manifest, ...]:
    """The gateways that run."""
    return tuple(
        pod
        for pod in seen.of_kind("Pod")
        if (pod["metadata"].get("labels") or {}).get(names.COMPONENT_LABEL) == gateways.COMPONENT
        and podstate.is_running(pod)
    )


def read(seen: Seen, now: datetime) -> Reports:
    """The last answers of the gateways that run."""
    pods = find_pods(seen)
    answers = [seen.facts.get(_probe_name(pod)) for pod in pods]
    told = [report for fact in answers if fact and (report := reading.read(GatewayReport, fact))]
    ages = [now.timestamp() - report.time for report in told]
    load = total([_load(report) for report in told], len(pods), max((0.0, *ages)))
    return Reports(pods, load, tuple(report.weights for report in told))


def build_probes(pods: tuple[Manifest, ...], *, at_rest: bool) -> list[Probe]:
    """The questions: again and again, or held back until there is something to tell."""
    probes = []
    for pod in pods:
        meta, ip = pod["metadata"], (pod.get("status") or {}).get("podIP")
        if ip:
            probes.append(
                Probe(
                    _probe_name(pod), meta["namespace"], meta["name"], ip, codes.GATEWAY_ADMIN_PORT, PATH,
                    interval=BUSY_SECONDS, wait=REST_SECONDS if at_rest else 0.0,
                )
            )  # fmt: skip
    return probes


def _probe_name(pod: Manifest) -> str:
    return f"gateway-{pod['metadata']['uid']}"


def _load(report: GatewayReport) -> LoadReport:
    return LoadReport(
        queued=report.queued,
        running=report.running,
        stable=_window(report.stable),
        panic=_window(report.panic),
        idle_seconds=report.idle_seconds,
        covered_seconds=report.covered_seconds,
    )


def _window(window: WindowReport) -> Window:
    return Window(window.queued, window.running, window.arrival_rate, window.finish_rate)
