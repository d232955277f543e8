"""Logs, metrics and health."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import aiohttp
from modelyard.engine.measure import Family, Measure, Sample
from modelyard.engine.plan import Key
from modelyard.features import FEATURES
from modelyard.telemetry.health import HealthServer
from modelyard.telemetry.logs import JsonFormatter
from modelyard.telemetry.metrics import Metrics
from modelyard.telemetry.owners import MAX_OWNERS
from modelyard.telemetry.resources import ResourceCollector


def record(message: str, **extra: Any) -> dict[str, Any]:
    made = logging.getLogger("test").makeRecord("test", logging.INFO, "f", 1, message, (), None, extra=extra)
    line: dict[str, Any] = json.loads(JsonFormatter().format(made))
    return line


def test_a_line_holds_the_fields_that_were_given() -> None:
    line = record("pass\nrepeated", key="TrainingJob/ns/a", seconds=1.5)
    assert line["message"] == "pass\nrepeated"
    assert (line["key"], line["seconds"], line["level"]) == ("TrainingJob/ns/a", 1.5, "info")


def test_objects_and_credentials_never_reach_the_log() -> None:
    line = json.dumps(record("x", body={"env": "canary"}, token="canary", api_secret="canary"))
    assert "canary" not in line


def resource(phase: str | None, team: str = "care") -> dict[str, Any]:
    status = {"phase": phase} if phase else {}
    return {"metadata": {"labels": {"modelyard.dev/team": team}}, "status": status}


def count(metrics: Metrics, **labels: str) -> float | None:
    return metrics.registry.get_sample_value("modelyard_resources", labels)


def test_each_resource_is_counted_once_in_its_present_phase() -> None:
    metrics, key = Metrics(), Key("TrainingJob", "ns", "a")
    labels = {"kind": "TrainingJob", "project": "", "team": "care"}
    metrics.holds(key, resource(None))
    metrics.holds(key, resource("Training"))
    metrics.holds(key, resource("Training"))
    assert count(metrics, phase="Training", **labels) == 1
    assert count(metrics, phase="Pending", **labels) == 0
    metrics.holds(key, None)
    assert count(metrics, phase="Training", **labels) == 0


def test_the_first_refusal_is_an_increase() -> None:
    metrics = Metrics(
        {feature.kind.name: feature.measure for feature in FEATURES if feature.measure is not None}
    )
    labels = {"kind": "TrainingJob", "operation": "status"}
    name = "modelyard_refused_writes_total"
    assert metrics.registry.get_sample_value(name, labels) == 0
    metrics.refused(**labels)
    assert metrics.registry.get_sample_value(name, labels) == 1


def test_users_can_not_make_series_without_bound() -> None:
    metrics = Metrics()
    for n in range(MAX_OWNERS + 100):
        metrics.holds(Key("TrainingJob", "ns", f"j{n}"), resource("Training", f"team-{n}"))
    lines = [
        line for line in metrics.render().decode().splitlines() if line.startswith("modelyard_resources{")
    ]
    assert len(lines) == MAX_OWNERS + 1
    assert count(metrics, kind="TrainingJob", phase="Training", project="other", team="other") == 100


def test_two_operators_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.added()
    assert 'workqueue_adds_total{name="reconcile"} 1.0' in one.render().decode()
    assert 'workqueue_adds_total{name="reconcile"} 0.0' in other.render().decode()


def test_health_tells_what_is_wrong_and_metrics_are_fresh() -> None:
    problems: dict[str, str | None] = {"alive": None, "ready": "the cache is being filled"}
    metrics = Metrics()

    async def scenario() -> list[tuple[int, str]]:
        server = HealthServer(
            metrics,
            alive=lambda: problems["alive"],
            ready=lambda: problems["ready"],
            refresh=lambda: metrics.cached("Job", 3),
        )
        port = await server.start("127.0.0.1", 0)
        answers = []
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                for path in ("/healthz", "/readyz", "/metrics"):
                    async with session.get(path) as response:
                        answers.append((response.status, await response.text()))
        finally:
            await server.stop()
        return answers

    alive, ready, scraped = asyncio.run(scenario())
    assert alive == (200, "ok\n")
    assert ready == (503, "the cache is being filled\n")
    assert 'modelyard_cache_objects{kind="Job"} 3.0' in scraped[1]


def test_so_many_resources_have_series_of_their_own_and_the_rest_is_counted() -> None:
    family = Family("modelyard_toy_step", "Steps.", ("side",))
    measure = Measure(
        (family,), lambda r: r["step"] > 0, lambda r: [Sample(family.name, r["step"], ("left",))]
    )
    keys = [Key("Toy", "ns", f"t{n}") for n in range(4)]
    steps: dict[Key, Any] = {}
    collector = ResourceCollector({"Toy": measure}, steps.get, limit=2)

    def hold(key: Key, step: int | None) -> None:
        steps[key] = {"step": step} if step is not None else None
        collector.hold(key, steps[key])

    def values() -> tuple[dict[str, float], float]:
        step, unmeasured = collector.collect()
        return {s.labels["name"]: s.value for s in step.samples}, unmeasured.samples[0].value

    for n, key in enumerate(keys):
        hold(key, n + 1)
    assert values() == ({"t0": 1, "t1": 2}, 2)
    hold(keys[1], 9)
    assert values() == ({"t0": 1, "t1": 9}, 2)
    hold(keys[0], 0)  # over
    hold(keys[2], 3)
    assert values() == ({"t1": 9, "t2": 3}, 1)
    steps[keys[1]] = None  # gone, and no pass has seen it yet
    assert values() == ({"t2": 3}, 1)
    for key in keys:
        hold(key, None)
    assert values() == ({}, 0)
    hold(Key("Other", "ns", "o"), 1)
    assert values() == ({}, 0), "a kind of which nothing is measured"
