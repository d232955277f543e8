"""What counts as a difference between what was asked for and what is there."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.engine.compare import differs, digest

SAME: list[tuple[str, Any, Any]] = [
    ("the server's defaults", {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 2}}),
    ("quantities in another spelling", {"cpu": "2", "memory": "1Gi"}, {"cpu": "2000m", "memory": "1024Mi"}),
    ("a number for a quantity", {"cpu": "2"}, {"cpu": 2}),
    ("false that is left out", {}, {"suspend": False}),
    ("an empty object that is left out", {}, {"nodeSelector": {}}),
    ("an empty list that is left out", {}, {"tolerations": []}),
    ("a container that others inject", [{"name": "sidecar"}, {"name": "main", "x": 1}], [{"name": "main"}]),
    ("ports by number", [{"port": 2, "protocol": "TCP"}, {"port": 1}], [{"port": 1}, {"port": 2}]),
    ("another owner", [{"uid": "x"}, {"uid": "y", "controller": True}], [{"uid": "y", "controller": True}]),
]
OTHER: list[tuple[str, Any, Any]] = [
    ("a changed value", {"a": 1}, {"a": 2}),
    ("a missing value", {}, {"a": "x"}),
    ("another quantity", {"cpu": "2"}, {"cpu": "3"}),
    ("words that are no quantities", {"a": "10x"}, {"a": "10y"}),
    ("a missing entry", [{"name": "b"}], [{"name": "a", "image": "i"}]),
    ("a changed entry", [{"name": "a", "image": "j"}], [{"name": "a", "image": "i"}]),
    ("arguments in another order", ["a", "b"], ["b", "a"]),
    ("fewer arguments", ["a"], ["a", "b"]),
    ("more arguments", ["a", "b"], ["a"]),
    ("another type", {"a": [1]}, {"a": {"b": 1}}),
    ("true that was made false", {"suspend": False}, {"suspend": True}),
    ("false that was made true", {"suspend": True}, {"suspend": False}),
]


@pytest.mark.parametrize(("live", "wanted"), [c[1:] for c in SAME], ids=[c[0] for c in SAME])
def test_no_difference(live: Any, wanted: Any) -> None:
    assert not differs(live, wanted)


@pytest.mark.parametrize(("live", "wanted"), [c[1:] for c in OTHER], ids=[c[0] for c in OTHER])
def test_a_difference(live: Any, wanted: Any) -> None:
    assert differs(live, wanted)


def test_the_digest_does_not_depend_on_the_order_of_names() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
