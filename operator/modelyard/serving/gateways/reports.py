"""What the gateways tell: the load that they have, and the weights that they follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelyard.contract import codes, reading
from modelyard.contract.gateway import GatewayReport, WindowReport
from modelyard.contract.load import STABLE_SECONDS, LoadReport, Window
from modelyard.engine.plan import Manifest, Seen
from modelyard.engine.probe import Age, Probe
from modelyard.serving import names
from modelyard.serving.children import gateways
from modelyard.serving.scaling import Load, total
from modelyard.workloads.pods import podstate

PATH = "/v1/load"
# While there is work, or a change is under way.
BUSY_SECONDS = 2.0
# What a gateway that doesn't answer has said counts for so long.
SILENT_SECONDS = 15.0
# At rest the question is held until there is something to tell, or for so long.
REST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reports:
    """`load` is the sum of those that answer; by the names of their pods `followed` has their weights, `troubles` what
    keeps them from following.

    `awaited`: one of them has neither answered nor been asked in vain. So it is while an operator begins.
    """

    pods: tuple[Manifest, ...] = ()
    load: Load = field(default_factory=Load)
    followed: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    troubles: Mapping[str, str] = field(default_factory=dict)
    awaited: bool = False


def find_pods(seen: Seen) -> tuple[Manifest, ...]:
    """The gateways that run."""
    return tuple(
        pod
        for pod in seen.of_kind("Pod")
        if (pod["metadata"].get("labels") or {}).get(names.COMPONENT_LABEL) == gateways.COMPONENT
        and podstate.is_running(pod)
    )


def read(seen: Seen) -> Reports:
    """The last answers of the gateways that run, without those of gateways that have fallen silent."""
    pods = find_pods(seen)
    told, awaited = {}, False
    for pod in pods:
        name = _probe_name(pod)
        fact, age = seen.facts.get(name), seen.ages.get(name, Age())
        awaited |= fact is None and not age.silent
        report = reading.read(GatewayReport, fact) if fact else None
        if report is not None and age.silent <= SILENT_SECONDS:
            told[str(pod["metadata"]["name"])] = report, age.seconds
    load = total([_load(report, age) for report, age in told.values()], len(pods))
    return Reports(
        pods,
        load,
        followed={name: report.weights for name, (report, _) in told.items()},
        troubles={
            name: podstate.first_line(report.trouble) for name, (report, _) in told.items() if report.trouble
        },
        awaited=awaited,
    )


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


def _load(report: GatewayReport, age: float) -> LoadReport:
    """What it has told, with the time that has passed since: had anything else changed, it would have told that."""
    idle = 0.0 if report.queued or report.running else report.idle_seconds + age
    return LoadReport(
        queued=report.queued,
        running=report.running,
        stable=_window(report.stable),
        panic=_window(report.panic),
        idle_seconds=idle,
        covered_seconds=min(report.covered_seconds + age, STABLE_SECONDS),
    )


def _window(window: WindowReport) -> Window:
    return Window(window.queued, window.running, window.arrival_rate, window.finish_rate)
