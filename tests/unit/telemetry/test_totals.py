"""Totals by owner: what statuses grow by, once each, over the ends of resources and of operators."""

from __future__ import annotations

import random
from typing import Any

from modelyard.engine.measure import Family, Measure, Sample
from modelyard.engine.plan import Key
from modelyard.telemetry.metrics import Metrics
from modelyard.telemetry.owners import MAX_OWNERS

SPENT = Family("spent_total", "Spent.", ("on",))
MEASURE = Measure(
    (), lambda resource: False, lambda resource: (), (SPENT,),
    lambda before, after: [Sample("spent_total", after.get("spent", 0) - before.get("spent", 0), ("wood",))],
)  # fmt: skip


def resource(status: dict[str, Any] | None, team: str = "care") -> dict[str, Any]:
    return {"metadata": {"labels": {"modelyard.dev/team": team}}, "status": status}


def spent(metrics: Metrics, team: str = "care") -> float | None:
    labels = {"kind": "Toy", "project": "", "team": team, "on": "wood"}
    return metrics.registry.get_sample_value("spent_total", labels)


def test_a_total_grows_by_what_statuses_say_more_and_outlives_the_resource() -> None:
    metrics, key = Metrics({"Toy": MEASURE}), Key("Toy", "ns", "a")
    metrics.reported(key, resource(None), {"spent": 3})
    metrics.reported(key, resource({"spent": 3}), {"spent": 3})
    metrics.reported(Key("Toy", "ns", "c"), resource({}, "new"), {})
    assert spent(metrics, "new") == 0, "so that increase() counts the first"
    metrics.reported(key, resource({"spent": 3}), {"spent": 7.5})
    metrics.reported(Key("Toy", "ns", "b"), resource({}), {"spent": 1})
    metrics.holds(key, None)
    assert spent(metrics) == 8.5


def test_an_operator_that_is_started_again_counts_on_from_what_it_finds() -> None:
    metrics = Metrics({"Toy": MEASURE})
    metrics.holds(Key("Toy", "ns", "a"), resource({"spent": 100}))
    assert spent(metrics) is None
    metrics.reported(Key("Toy", "ns", "a"), resource({"spent": 100}), {"spent": 101})
    assert spent(metrics) == 1


def test_a_total_never_falls_and_a_correction_is_made_good() -> None:
    metrics, key = Metrics({"Toy": MEASURE}), Key("Toy", "ns", "a")
    chance, before, shown = random.Random(7), 0.0, 0.0  # noqa: S311
    for _ in range(500):
        after = before + chance.uniform(-1, 2)
        metrics.reported(key, resource({"spent": before}), {"spent": after})
        now = spent(metrics) or 0.0
        assert now >= shown
        before, shown = after, now
    metrics.reported(key, resource({"spent": before}), {"spent": before + 5})
    assert abs((spent(metrics) or 0.0) - before - 5) < 1e-6


def test_kinds_without_totals_and_owners_without_number_make_no_series() -> None:
    metrics = Metrics({"Toy": MEASURE})
    metrics.reported(Key("Other", "ns", "a"), resource(None, "team-0"), {"spent": 3})
    for n in range(MAX_OWNERS + 50):
        metrics.reported(Key("Toy", "ns", f"j{n}"), resource(None, f"team-{n}"), {"spent": 1})
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith("spent_total{")]
    assert len(lines) == MAX_OWNERS + 1
    other = {"kind": "Toy", "project": "other", "team": "other", "on": "wood"}
    assert metrics.registry.get_sample_value("spent_total", other) == 50
