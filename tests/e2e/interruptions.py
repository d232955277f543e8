"""Ways to disturb a training from outside."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.contract import codes
from modelyard.workloads.times import parse_time

from tests.e2e.harness import Kube

_KILL = f"""
import os, signal

ranks = [name.split('.')[0] for name in os.listdir('{codes.RUNTIME_PATH}/{codes.RANKS_FOLDER}')]
assert ranks, 'no rank runs here'
for rank in ranks:
    os.kill(int(rank), signal.SIGKILL)
"""


def kill_ranks(kube: Kube, job: str) -> None:
    """Kills the training processes of the second node of a job's first attempt; torchrun and the agent live on."""
    pod = next(p["metadata"]["name"] for p in kube.pods(job) if "-1-1-" in p["metadata"]["name"])
    kube.execute(pod, "python3", "-c", _KILL)


def check_goodput(status: dict[str, Any]) -> None:
    """Each second of an interrupted job is in one state, and none of those that it must have been in lacks."""
    attempts, spent = status["attempts"], status["goodput"]["seconds"]
    life = parse_time(attempts[-1]["endTime"]) - parse_time(attempts[0]["startTime"])
    assert sum(spent.values()) == pytest.approx(life.total_seconds(), abs=3), spent
    assert spent.keys() >= {"starting", "productive", "saving", "evaluating", "exporting", "recovering"}, (
        spent
    )
    assert status["goodput"]["ratio"] == pytest.approx(
        spent["productive"] / sum(seconds for state, seconds in spent.items() if state != "queued"), abs=1e-3
    )
