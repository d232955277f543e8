"""Training on two nodes, and what becomes of it when one is drained, is lost, or can't have the volume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.e2e.harness import Kube, TrainingJob, condition, is_true
from tests.e2e.jobs import classification
from tests.e2e.setup import Cluster
from tests.e2e.storage import open_reader
from tests.e2e.test_interruptions import slow
from tests.twonodes.nodes import Nodes, apart

SOON = 30.0
STEPS = 40


def spec(**changes: Any) -> dict[str, Any]:
    """Long enough to be interrupted."""
    made = slow(**changes)
    return {**made, "training": {**made["training"], "maxSteps": STEPS}}


def last_checkpoint(status: Mapping[str, Any]) -> int:
    """Its step, 0 while there is none."""
    step: int = status.get("checkpoints", {}).get("last", {}).get("step", 0)
    return step


def test_two_nodes_train_one_model_and_a_drained_one_costs_no_step(kube: Kube, nodes: Nodes) -> None:
    job = TrainingJob(kube, "drained", spec(trainer=apart())).create()
    job.wait_step(5)
    placed = nodes.placed(job.name, 1)
    assert sorted(placed.values()) == nodes.names(), "one pod on each"
    leader = next(node for pod, node in placed.items() if pod.startswith("drained-train-1-0-"))
    nodes.drain(leader)
    job.wait("the next attempt", lambda s: s.get("attempt") == 2 and len(nodes.placed(job.name, 2)) == 2, 120)
    assert leader not in nodes.placed(job.name, 2).values()
    status = job.wait_succeeded(300)
    first, second = status["attempts"]
    assert first["cause"] == "Preempted"
    assert first["lostSteps"] == 0
    assert first["toStep"] >= 5
    assert second["fromStep"] == first["toStep"]
    assert status["progress"]["step"] == second["toStep"] == STEPS


def test_a_lost_node_costs_the_steps_since_the_last_checkpoint_and_no_two_attempts_run_at_once(
    kube: Kube, nodes: Nodes
) -> None:
    checkpoint = {"every": {"steps": 5}, "keepLast": 3}
    job = TrainingJob(kube, "lossy", spec(checkpoint=checkpoint, trainer=apart(grace=15))).create()
    job.wait("a checkpoint", lambda s: last_checkpoint(s) >= 5, 180)
    lost = nodes.without_operator()
    (stuck,) = [pod for pod, node in nodes.placed(job.name, 1).items() if node == lost]
    nodes.lose(lost)
    told = job.wait(
        "a word about it", lambda s: condition(s, "PodsReady").get("reason") == "NodeTainted", 180
    )
    assert lost in condition(told, "PodsReady")["message"]
    job.wait("the next attempt's pods", lambda _: nodes.placed(job.name, 2), 180)
    assert set(nodes.placed(job.name, 1)) <= {stuck}, "pods of two attempts side by side"
    status = job.wait_succeeded(300)
    first, second = status["attempts"]
    assert (first["cause"], first["failure"]["reason"]) == ("Infrastructure", "NodeLost")
    assert first["failure"]["node"] == lost
    assert second["fromStep"] >= 5
    assert second["fromStep"] % 5 == 0
    assert first["toStep"] - first["lostSteps"] <= second["fromStep"] <= first["toStep"]
    assert status["counters"]["infraFailures"] == 1


def test_a_pod_that_lives_on_behind_a_broken_network_ends_when_the_next_attempt_begins(
    kube: Kube, nodes: Nodes, cluster: Cluster
) -> None:
    place = nodes.without_operator()
    (other,) = set(nodes.names()) - {place}
    nodes.cordon(other)
    checkpoint = {"every": {"steps": 10}, "keepLast": 1}
    endless = spec(checkpoint=checkpoint, trainer=apart(grace=15, count=1))
    endless["training"]["maxSteps"] = 5000
    job = TrainingJob(kube, "zombie", endless).create()
    seen = job.wait("a checkpoint", lambda s: last_checkpoint(s) >= 10, 180)["checkpoints"]["last"]["step"]
    nodes.uncordon(other)
    nodes.cut_off(place)
    status = job.wait(
        "an attempt that goes on from what the first one saved unseen, since it lived on",
        lambda s: len(s.get("attempts", [])) == 2 and s["attempts"][1].get("fromStep", 0) > seen,
        300,
    )
    assert status["attempts"][0]["failure"]["reason"] == "NodeLost"
    assert list(nodes.placed(job.name, 2).values()) == [other]
    reader = open_reader(kube, job, cluster.images["trainer"])
    left = json.loads(reader.read("a1/node-0.json"))
    assert left["failure"]["reason"] == "Superseded"
    job.wait_step(status["attempts"][1]["fromStep"] + 1)


def test_a_claim_for_one_node_at_a_time_is_named_within_30_seconds(kube: Kube, nodes: Nodes) -> None:
    storage = {"claim": {"size": "1Gi", "accessModes": ["ReadWriteOnce"]}}
    # A node has room for one of them.
    large = {"limits": {"cpu": "2", "memory": "3Gi"}, "requests": {"cpu": "1200m", "memory": "500Mi"}}
    job = TrainingJob(kube, "unshared", classification(storage=storage, trainer=apart(large))).create()
    job.wait("training pods", lambda s: kube.pods(job.name) or is_true(s, "Stalled"), 180)
    found = job.wait_reason("PodsReady", "VolumeNotShared", SOON + 30)
    assert "unshared-storage" in found["message"]
    assert "ReadWriteMany" in found["message"]
    created = kube.pods(job.name)[0]["metadata"]["creationTimestamp"]
    lag = datetime.fromisoformat(found["lastTransitionTime"]) - datetime.fromisoformat(created)
    assert lag.total_seconds() <= SOON
    assert not is_true(job.status(), "Stalled")
