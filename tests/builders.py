"""Builders of the objects that tests are about. Each method returns the builder, so that calls chain."""

from __future__ import annotations

import copy
import json
from typing import Any

from modelyard.api.profile import Profile, Settings
from modelyard.engine.plan import Manifest


def make_settings(**profile: Any) -> Settings:
    """Settings with one profile, `default`."""
    values = {
        "trainer_image": "registry.example/trainer:1",
        "server_image": "registry.example/server:1",
        "gateway_image": "registry.example/gateway:1",
        "agent_image": "registry.example/operator:1",
        **profile,
    }
    return Settings(profiles={"default": Profile(**values)})


class TrainingJobBuilder:
    """A TrainingJob of one node: classification of one file, with the profile's storage."""

    def __init__(self, name: str = "sentiment") -> None:
        self._job: Manifest = {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {
                "name": name, "namespace": "team", "generation": 1, "labels": {},
                "uid": "0c0ffee0-1111-2222-3333-444444444444",
            },
            "spec": {
                "task": "text-classification",
                "model": {"uri": "pvc://models/minilm"},
                "data": {"sources": [{"name": "tweets", "uri": "pvc://inputs/tweets.csv"}]},
            },
        }  # fmt: skip

    def spec(self, path: str, value: Any) -> TrainingJobBuilder:
        """Sets one field by its dotted path; None removes it."""
        *folders, last = path.split(".")
        place = self._job["spec"]
        for folder in folders:
            place = place.setdefault(folder, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
        return self

    def nodes(self, count: int) -> TrainingJobBuilder:
        """Pods that train together."""
        return self.spec("trainer.numNodes", count)

    def limits(self, **limits: str) -> TrainingJobBuilder:
        """Limits of each train pod."""
        return self.spec("trainer.resourcesPerNode.limits", limits)

    def gate(self, largest: float) -> TrainingJobBuilder:
        """A gate on eval_loss."""
        return self.spec("gate", {"metric": "eval_loss", "max": largest})

    def argument(self, name: str, value: Any) -> TrainingJobBuilder:
        """One of spec.training.args."""
        self._job["spec"].setdefault("training", {}).setdefault("args", {})[name] = value
        return self

    def command(self, *words: str) -> TrainingJobBuilder:
        """The user's own program, without task, model and data."""
        for field in ("task", "model", "data"):
            self._job["spec"].pop(field, None)
        return self.spec("trainer.command", list(words)).spec("trainer.image", "registry.example/mine:1")

    def label(self, key: str, value: str) -> TrainingJobBuilder:
        """A label of the job."""
        self._job["metadata"]["labels"][key] = value
        return self

    def status(self, status: dict[str, Any]) -> TrainingJobBuilder:
        """A status, as an earlier pass wrote it."""
        self._job["status"] = status
        return self

    def build(self) -> Manifest:
        """The object."""
        return copy.deepcopy(self._job)


class PodBuilder:
    """A pod of a Job, pending."""

    def __init__(self, job: Manifest, index: int = 0) -> None:
        template = job["spec"]["template"]
        name = job["metadata"]["name"]
        ours = ("prepare", "trainer", "collect")
        self._main = next(c["name"] for c in template["spec"]["containers"] if c["name"] in ours)
        self._pod: Manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-{index}-abcde",
                "uid": f"{job['metadata']['uid']}-{index}",
                "namespace": job["metadata"]["namespace"],
                "labels": {
                    **template["metadata"]["labels"], "batch.kubernetes.io/job-completion-index": str(index)
                },
                "ownerReferences": [{"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}],
            },
            "spec": {**template["spec"], "nodeName": f"node-{index}"},
            "status": {"phase": "Pending"},
        }  # fmt: skip

    def created(self, time: str) -> PodBuilder:
        """When it was created."""
        self._pod["metadata"]["creationTimestamp"] = time
        return self

    def placed(self, time: str) -> PodBuilder:
        """Its node's kubelet has seen it."""
        self._pod["status"]["startTime"] = time
        return self

    def running(self, since: str, ip: str = "10.0.0.7") -> PodBuilder:
        """Its container runs."""
        self._pod["status"] |= {
            "phase": "Running", "podIP": ip,
            "containerStatuses": [{"name": self._main, "state": {"running": {"startedAt": since}}}],
        }  # fmt: skip
        return self

    def ended(
        self,
        code: int,
        message: Any = None,
        start: str | None = None,
        end: str | None = None,
        reason: str | None = None,
    ) -> PodBuilder:
        """Its container has ended, with this termination message (JSON if it isn't a string)."""
        text = message if isinstance(message, str) or message is None else json.dumps(message)
        state: dict[str, Any] = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
        }
        times = {"message": text, "startedAt": start, "finishedAt": end}
        state |= {key: value for key, value in times.items() if value is not None}
        self._pod["status"] = {
            **self._pod["status"],
            "phase": "Succeeded" if code == 0 else "Failed",
            "containerStatuses": [{"name": self._main, "state": {"terminated": state}}],
        }
        return self

    def beside(self, name: str = "aaa-mesh", code: int | None = None) -> PodBuilder:
        """Another container stands beside its own: it runs on, or has ended with this exit code.

        The kubelet lists statuses by name, and a pod runs for as long as one of its containers does.
        """
        state: dict[str, dict[str, Any]] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        if code is not None:
            state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
        other = {"name": name, "image": "registry.example/mesh:1", "state": state}
        status = self._pod["status"]
        status["containerStatuses"] = sorted(
            [*status.get("containerStatuses", []), other], key=lambda c: str(c["name"])
        )
        if code is None:
            status["phase"] = "Running"
        elif code and status["phase"] == "Succeeded":
            status["phase"] = "Failed"
        return self

    def waiting(self, reason: str, message: str = "", image: str = "registry.example/none:1") -> PodBuilder:
        """Its container waits."""
        self._pod["status"]["containerStatuses"] = [
            {"name": self._main, "image": image, "state": {"waiting": {"reason": reason, "message": message}}}
        ]
        return self

    def unscheduled(self, message: str) -> PodBuilder:
        """The scheduler finds no node."""
        return self.condition("PodScheduled", "False", "Unschedulable", message)

    def condition(self, kind: str, status: str, reason: str, message: str = "") -> PodBuilder:
        """A condition."""
        entry = {"type": kind, "status": status, "reason": reason, "message": message}
        self._pod["status"].setdefault("conditions", []).append(entry)
        return self

    def deleted(self, time: str) -> PodBuilder:
        """It is being deleted; its grace period ends at this time."""
        self._pod["metadata"]["deletionTimestamp"] = time
        return self

    def evicted(self, reason: str = "Evicted") -> PodBuilder:
        """The kubelet evicted it."""
        self._pod["status"].update(
            phase="Failed", reason=reason, message="The node was low on resource: memory."
        )
        return self

    def says(self, **status: Any) -> PodBuilder:
        """Fields of its status, as some component writes them."""
        self._pod["status"].update(status)
        return self

    def main(self, state: dict[str, Any], image: str = "registry.example/mine:1") -> PodBuilder:
        """State of its own container."""
        return self.says(containerStatuses=[{"name": self._main, "image": image, "state": state}])

    def init(self, name: str, state: dict[str, Any], *, ready: bool = False) -> PodBuilder:
        """State of an init container."""
        entry = {"name": name, "image": "registry.example/init:1", "state": state, "ready": ready}
        return self.says(initContainerStatuses=[entry])

    def build(self) -> Manifest:
        """The object."""
        return copy.deepcopy(self._pod)
