"""What a deployment is looked at for, and what others write that says nothing to it."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.engine.plan import Key, Manifest

from tests.unit.serving.world import NAME, NAMESPACE, World, deployment, trained_job

GATEWAY = Key("Deployment", NAMESPACE, f"{NAME}-gateway")
BUDGET = Key("PodDisruptionBudget", NAMESPACE, f"{NAME}-gateway")


class Busy(World):
    """Controllers write each of their steps down, as Kubernetes' do, and the operator hears of each by itself."""

    def report(self, key: Key, status: dict[str, Any]) -> None:
        if key.kind != "Deployment" or self.cluster.objects[key].get("status") == status:
            super().report(key, status)
            return
        generation = self.cluster.objects[key]["metadata"]["generation"]
        final = status | {
            "observedGeneration": generation, "availableReplicas": status["readyReplicas"],
            "conditions": [progress("NewReplicaSetAvailable"), {"type": "Available", "status": "True"}],
        }  # fmt: skip
        if self.cluster.objects[key].get("status") == final:
            return
        step: dict[str, Any] = {
            "observedGeneration": generation,
            "conditions": [progress("NewReplicaSetCreated")],
        }
        self._write(key, step)
        size = status["replicas"]
        step |= {"replicas": size, "updatedReplicas": size, "unavailableReplicas": size}
        self._write(
            key,
            {**step, "conditions": [progress("ReplicaSetUpdated"), {"type": "Available", "status": "False"}]},
        )
        self._write(key, final)

    def _play(self) -> None:
        super()._play()
        for key in [k for k in self.cluster.objects if k.kind == "PodDisruptionBudget"]:
            if "status" not in self.cluster.objects[key]:
                for healthy in (0, 1):
                    for disrupted in ({}, {"disruptionsAllowed": healthy}):
                        self._write(key, {"currentHealthy": healthy, "expectedPods": 1, **disrupted})

    def _play_job(self, key: Key, job: Manifest) -> None:
        if "status" not in job:
            self._write(key, {"active": 1, "startTime": self.time, "uncountedTerminatedPods": {}})
            self._write(key, {"active": 1, "startTime": self.time, "ready": 1, "uncountedTerminatedPods": {}})
            uncounted = {"succeeded": ["uid"]}
            self._write(
                key, {"active": 1, "startTime": self.time, "ready": 0, "uncountedTerminatedPods": uncounted}
            )
        super()._play_job(key, self.cluster.objects[key])

    def _write(self, key: Key, status: dict[str, Any]) -> None:
        super().report(key, status)
        self._work()


def progress(reason: str) -> dict[str, Any]:
    return {"type": "Progressing", "status": "True", "reason": reason}


def test_a_new_deployment_is_looked_at_no_more_often_than_it_has_news() -> None:
    world = Busy()
    world.create(trained_job(), deployment())
    assert world.condition("Ready") == ("True", "Serving")
    assert world.engine.passes <= 14  # 23 where each write of others was one


STEPS: dict[str, tuple[Key | None, dict[str, Any], int]] = {
    "a budget counts": (BUDGET, {"disruptionsAllowed": 1, "currentHealthy": 2, "conditions": []}, 0),
    "a Deployment counts": (GATEWAY, {"unavailableReplicas": 1, "terminatingReplicas": 1}, 0),
    "a Deployment goes on": (GATEWAY, {"conditions": [progress("ReplicaSetUpdated")]}, 0),
    "a Deployment's pods are refused": (GATEWAY, {"conditions": [{"type": "ReplicaFailure", "status": "True"}]}, 1),
    "a gateway is ready no more": (GATEWAY, {"readyReplicas": 0}, 1),
    "a Deployment's controller has seen it": (GATEWAY, {"observedGeneration": 7}, 1),
    "a Job counts": (None, {"ready": 1, "uncountedTerminatedPods": {"failed": ["uid"]}}, 0),
    "a Job's pods end": (None, {"terminating": 1}, 1),
    "a Job has begun": (None, {"startTime": "2026-01-01T00:00:00Z"}, 1),
}  # fmt: skip


@pytest.mark.parametrize(("key", "status", "passes"), STEPS.values(), ids=STEPS)
def test_only_what_is_read_is_news(key: Key | None, status: dict[str, Any], passes: int) -> None:
    world = World(result=None)
    world.create(trained_job(), deployment())
    key = key or next(k for k in world.cluster.objects if k.kind == "Job")
    before = world.engine.passes
    world.cluster.change(key, lambda o: o.update(status={**(o.get("status") or {}), **status}))
    world._work()
    assert bool(world.engine.passes - before) == bool(passes)


@pytest.mark.parametrize("what", ["spec", "labels", "annotations", "managedFields", "gone"])
def test_whatever_else_others_do_to_a_child_is_news(what: str) -> None:
    world = World()
    world.create(trained_job(), deployment())
    for key in (BUDGET, GATEWAY, next(k for k in world.cluster.objects if k.kind == "Job")):
        before = world.engine.passes
        if what == "gone":
            world.cluster.erase(key)
        elif what == "spec":
            world.cluster.change(key, lambda o: o["spec"].update(paused=True))
        else:
            world.cluster.change(key, lambda o: o["metadata"].update({what: WRITTEN[what]}))
        world._work()
        assert world.engine.passes > before, key
        assert (
            key.kind == "Job"
            or world.cluster.objects[key]["metadata"]["labels"]["modelyard.dev/team"] == "care"
        )


WRITTEN: dict[str, Any] = {
    "labels": {"app.kubernetes.io/managed-by": "modelyard", "modelyard.dev/modeldeployment": NAME},
    "annotations": {"modelyard.dev/spec-hash": "other"},
    "managedFields": [{"manager": "kubectl", "operation": "Update", "subresource": "scale"}],
}
