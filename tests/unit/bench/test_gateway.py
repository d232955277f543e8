"""What the measurement of the gateway says of its samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench import gateway
from tests.bench.gateway import Subject
from tests.bench.gatewayload import describe
from tests.bench.sections import Rows


@pytest.mark.parametrize(
    ("many", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (100, 50, 99), (101, 51, 100), (1000, 500, 990)]
)
def test_percentiles_are_by_nearest_rank(many: int, p50: int, p99: int) -> None:
    told = describe([n / 1e3 for n in range(1, many + 1)], 2.0)
    assert (told["requests"], told["per_s"]) == (many, many / 2)
    assert told["p50_ms"] == pytest.approx(p50)
    assert told["p99_ms"] == pytest.approx(p99)


def test_that_nothing_was_answered_is_no_figure() -> None:
    assert describe([], 1.0) == {"requests": 0, "per_s": 0.0, "p50_ms": 0.0, "p99_ms": 0.0}


def test_one_failure_costs_its_own_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def running(folder: Path) -> Iterator[list[Subject]]:
        yield [Subject("none", 1, None), Subject("proxy", 2, None), Subject("gateway", 3, None)]

    def run(what: str, port: str, clients: str, *rest: str) -> dict[str, Any]:
        told = describe([0.001] * 100, 1.0) | {"errors": list[str]()}
        return told | {"errors": ["503"]} if (port, clients) == ("3", "8") else told

    monkeypatch.setattr(gateway, "_running", running)
    monkeypatch.setattr(gateway, "_run", run)
    monkeypatch.setattr(gateway, "_hold", lambda subject: {"MB idle": 1})
    rows = Rows()
    gateway.measure(rows)
    assert len(rows) == 3 * 3 * 2 + 2
    assert rows.failures() == ["gateway, 8: RuntimeError: gateway: ['503']"] * 2
