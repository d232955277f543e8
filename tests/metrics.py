"""Every metric that Modelyard's programs declare, with its labels: what documents, alerts and dashboards may name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard.contract.gateway import GatewayConfig
from modelyard.contract.server import ServerConfig
from modelyard.features import FEATURES
from modelyard.telemetry.metrics import Metrics
from modelyard.telemetry.resources import ResourceCollector
from modelyard.telemetry.totals import TotalsCollector
from modelyard_agent.progress import Progress
from modelyard_gateway.process import Process
from modelyard_gateway.settings import Settings
from modelyard_gateway.telemetry import metrics as gateways
from modelyard_server.serving import metrics as servers
from modelyard_server.serving.generation_metrics import GenerationMetrics
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

Labels = dict[str, set[str]]
# Names of metrics, wherever they stand.
NAME = r"\b(?:(?:modelyard|workqueue|process)_|vllm:)[a-z0-9_]+"
# What the chart's monitors, and Prometheus, put on the series of a target; the first prefix that fits counts.
_TARGET = {"instance", "job", "namespace", "cluster"}
_OF_PODS = _TARGET | {"pod", "project", "team"}
TARGET: Mapping[str, set[str]] = {
    "modelyard_training_": _OF_PODS | {"trainingjob"},
    "modelyard_gateway_": _OF_PODS | {"modeldeployment"},
    "modelyard_server_": _OF_PODS | {"modeldeployment", "revision"},
    "vllm:": _OF_PODS | {"modeldeployment", "revision"},
    "process_": _OF_PODS | {"modeldeployment", "revision"},
    "": _TARGET,
}


def read_operator() -> Labels:
    """The operator's, those of resources included."""
    metrics = Metrics({f.kind.name: f.measure for f in FEATURES if f.measure is not None})
    return _merge(_read_registry(metrics.registry), _read_text(metrics.render().decode()))


def read_agent() -> Labels:
    """Those of a training pod's agent."""
    agent = Progress(1)
    report: dict[str, Any] = dict.fromkeys(
        ("step", "maxSteps", "epoch", "stepSeconds", "samplesPerSecond", "tokensPerSecond"), 1
    )
    agent.merge({**report, "metrics": {"loss": 1.0}})
    agent.set_checkpoints({"step": 1}, {"step": 1})
    return _read_text(agent.render())


def read_gateway() -> Labels:
    """A gateway's."""

    async def render() -> str:
        nowhere = Path("/nonexistent")
        config = GatewayConfig(name="m", namespace="ns", deployment="d")
        process = Process(Settings(config, "http://127.0.0.1:9", nowhere, nowhere, nowhere))
        process.metrics.see("r", gateways.OK, 1.0)
        return process.metrics.render().decode()

    return _read_text(asyncio.run(render()))


def read_server() -> Labels:
    """A server's, those of generation included."""
    metrics = servers.Metrics(ServerConfig(name="m", task="text-generation", folder="f"))
    GenerationMetrics(metrics, lambda: 0.0)
    return _merge(_read_registry(metrics.registry), _read_text(metrics.render().decode()))


def read_all() -> Labels:
    """Those of all programs, by the names of their series."""
    return _merge(read_operator(), read_agent(), read_gateway(), read_server())


def name_families(metrics: Labels) -> set[str]:
    """Metrics by the names that documents have: without a histogram's parts, `_created`, and the process's own."""
    return {
        re.sub(r"_bucket$", "", name)
        for name in metrics
        if not re.search(r"_(count|created|sum)$", name)
        and f"{name}_total" not in metrics
        and not name.startswith(("process_", "python_"))
    }


def find_labels(metric: str, declared: Labels) -> set[str]:
    """All labels that a metric's series have in Prometheus."""
    return declared[metric] | next(labels for prefix, labels in TARGET.items() if metric.startswith(prefix))


def find_unknown(expr: str, declared: Labels) -> set[str]:
    """What a PromQL expression names and nothing declares: metrics, labels of a metric as `metric.label`, and labels
    that it groups or joins by.
    """
    names = set(re.findall(NAME, expr))
    found = names - declared.keys()
    for metric, chosen in re.findall(r"([a-z0-9_:]+){((?:[^}\"]|\"[^\"]*\")*)}", expr):
        if metric in declared:
            labels = set(re.findall(r"(\w+)(?:=|!)", re.sub(r'"[^"]*"', "", chosen)))
            found |= {f"{metric}.{label}" for label in labels - find_labels(metric, declared)}
    there = find_made(expr).union(*(find_labels(name, declared) for name in names & declared.keys()))
    for listed in re.findall(r"\b(?:by|on|group_left|group_right) ?\(([^)]*)\)", expr):
        found |= {label.strip() for label in listed.split(",")} - there - {""}
    return found


def find_made(expr: str) -> set[str]:
    """Labels that an expression makes by itself."""
    made = set(re.findall(r'count_values\("(\w+)"', expr))
    return made | set(re.findall(r'"(\w+)", "[^"]*", "\w*", "[^"]*"\s*\)', expr))


def _read_registry(registry: CollectorRegistry) -> Labels:
    """Labels as they are declared: without a first value there is no series to read them from."""
    found: Labels = {}
    for name, collector in registry._names_to_collectors.items():
        declared: Any = collector
        if isinstance(collector, ResourceCollector | TotalsCollector):
            declared = next(
                f for f in collector.describe() if name in (f.name, f"{f.name}_total", f"{f.name}_created")
            )
        if hasattr(declared, "_labelnames"):
            found[name] = set(declared._labelnames) | ({"le"} if name.endswith("_bucket") else set())
    return found


def _read_text(text: str) -> Labels:
    return _merge(
        *(
            {sample.name: set(sample.labels)}
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        )
    )


def _merge(*parts: Labels) -> Labels:
    found: Labels = {}
    for part in parts:
        for name, labels in part.items():
            found.setdefault(name, set()).update(labels)
    return found
