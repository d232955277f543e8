"""Builds: begun, tried again, given up, begun anew."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.serving.world import World, deployment, trained_job


def failed(reason: str = "ModelUnreachable", message: str = "No.") -> dict[str, Any]:
    """A build's result that has no package."""
    return {"stage": "build", "outcome": "failed", "failure": {"reason": reason, "message": message}}


@pytest.mark.parametrize("reason", ["Überlauf", "404", ""])
def test_a_reason_that_no_condition_takes_stops_no_pass(reason: str) -> None:
    world = World(result=failed(reason), exit_code=2)
    world.create(trained_job(), deployment())
    assert world.condition("Built") == ("False", "BuildFailed")
