"""Causes of an attempt's end, from the states its pods are left in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from modelyard.training.attempts.ending import classify

from tests.builders import PodBuilder, TrainingJobBuilder
from tests.unit.training.simulation import Simulation

Build = Callable[[Callable[[int], PodBuilder]], list[PodBuilder]]
AT = "2026-01-01T00:00:0{}Z".format


def failed(reason: str, message: str = "it broke", **fields: Any) -> dict[str, Any]:
    failure = {"reason": reason, "message": message, **fields}
    return {"stage": "train", "outcome": "failed", "attempt": 1, "failure": failure}


PREEMPTED = {"stage": "train", "outcome": "preempted", "attempt": 1, "step": 5}
CRASH = failed("UserCodeError", "rank 1 ended with exit code 1: ValueError: x", rank=1, exitCode=1)
PEER = failed("PeerFailed", "rank 0 lost its connection")

CASES: dict[str, tuple[Build, str, str]] = {
    "all stop on request": (
        lambda p: [p(0).ended(143, PREEMPTED), p(1).ended(143, PREEMPTED)],
        "Preempted",
        "Preempted",
    ),
    "one was deleted and is gone, the other saved": (
        lambda p: [p(1).ended(143, PREEMPTED)],
        "Preempted",
        "Preempted",
    ),
    "an eviction with a save is a preemption": (
        lambda p: [
            p(0).ended(143, PREEMPTED).condition("DisruptionTarget", "True", "EvictionByEvictionAPI"),
            p(1).ended(143, PREEMPTED),
        ],
        "Preempted",
        "EvictionByEvictionAPI",
    ),
    "an eviction without a save is the infrastructure's": (
        lambda p: [p(0).evicted(), p(1).ended(75, PEER)],
        "Infrastructure",
        "Evicted",
    ),
    "a preemption by the scheduler that left no word": (
        lambda p: [
            p(0).ended(137).condition("DisruptionTarget", "True", "PreemptionByScheduler"),
            p(1).ended(75, PEER),
        ],
        "Infrastructure",
        "PreemptionByScheduler",
    ),
    "a pod was deleted without grace while the other saved": (
        lambda p: [p(0).ended(143, PREEMPTED, end=AT(2)), p(1).ended(137, end=AT(2)).deleted(AT(0))],
        "Preempted",
        "Deleted",
    ),
    "a pod was deleted without grace and nothing saved": (
        lambda p: [p(0).ended(75, PEER, end=AT(1)), p(1).ended(137, end=AT(2)).deleted(AT(0))],
        "Infrastructure",
        "Deleted",
    ),
    "a rank crashes, and the Job's stop of the other takes longer than its grace": (
        lambda p: [p(0).ended(1, CRASH, end=AT(1)), p(1).ended(137, end=AT(5)).deleted(AT(4))],
        "UserError",
        "UserCodeError",
    ),
    "a kill by nobody knows whom": (lambda p: [p(0).ended(137)], "UserError", "UserCodeError"),
    "a rank crashes, and its peer notices in the same second": (
        lambda p: [p(0).ended(75, PEER, end=AT(1)), p(1).ended(1, CRASH, end=AT(1))],
        "UserError",
        "UserCodeError",
    ),
    "a rank crashes, and the Job stops the other in the same second": (
        lambda p: [p(0).ended(143, PREEMPTED, end=AT(1)), p(1).ended(1, CRASH, end=AT(1))],
        "UserError",
        "UserCodeError",
    ),
    "the peer of a pod that is gone crashes": (
        lambda p: [p(1).ended(75, PEER)],
        "Infrastructure",
        "PeerFailed",
    ),
    "the peer of a pod that is gone says so in its own words": (
        lambda p: [p(1).ended(1, failed("UserCodeError", excerpt="RuntimeError: Connection reset by peer"))],
        "Infrastructure",
        "UserCodeError",
    ),
    "a temporary failure": (
        lambda p: [p(0).ended(75, failed("RendezvousFailed")), p(1).ended(143, PREEMPTED)],
        "Infrastructure",
        "RendezvousFailed",
    ),
    "nothing is left": (lambda p: [], "Infrastructure", "PodsVanished"),
    "killed for its memory": (
        lambda p: [p(0).ended(75, PEER, end=AT(1)), p(1).ended(137, reason="OOMKilled", end=AT(2))],
        "UserError",
        "HostOutOfMemory",
    ),
    "the agent saw the kernel kill a rank": (
        lambda p: [p(0).ended(2, failed("HostOutOfMemory"))],
        "UserError",
        "HostOutOfMemory",
    ),
    "a program of the user's without a word": (lambda p: [p(0).ended(3)], "UserError", "UserCodeError"),
    "words that are no result": (
        lambda p: [p(0).ended(1, "segmentation fault")],
        "UserError",
        "UserCodeError",
    ),
    "a pod that failed before it ran": (
        lambda p: [p(0).evicted("UnexpectedAdmissionError")],
        "Infrastructure",
        "UnexpectedAdmissionError",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cause(name: str) -> None:
    build, cause, reason = CASES[name]
    simulation = Simulation(TrainingJobBuilder().nodes(2)).prepare()
    pods = [pod.build() for pod in build(lambda index: simulation.pod("sentiment-train-1", index))]
    ending = classify(pods, desired=2)
    assert ending.cause == cause
    assert ending.failure is not None
    assert ending.failure.reason == reason


def test_a_failure_says_which_pod_node_and_rank() -> None:
    simulation = Simulation(TrainingJobBuilder().nodes(2)).prepare()
    failure = classify([simulation.pod("sentiment-train-1", 1).ended(1, CRASH).build()], 1).failure
    assert failure is not None
    assert (failure.pod, failure.node, failure.rank, failure.exit_code) == (
        "sentiment-train-1-1-abcde",
        "node-1",
        1,
        1,
    )
    assert "ValueError" in failure.message
