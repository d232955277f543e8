"""A small cluster in memory: it keeps what plans ask for; tests play the kubelet and the Job controller."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.api.conditions import format_time
from modelyard.api.profile import Settings
from modelyard.engine.plan import Child, Manifest, Plan, Rejection, Seen
from modelyard.training import plan_job

from tests.builders import PodBuilder, TrainingJobBuilder, make_settings
from tests.kstatus import assert_kstatus, conditions_of

START = datetime(2026, 1, 1, tzinfo=UTC)


class Simulation:
    """One TrainingJob and its children. `writes` counts what a plan made the engine create or change."""

    def __init__(self, job: TrainingJobBuilder, settings: Settings | None = None) -> None:
        self.job = job.build()
        self.settings = settings or make_settings()
        self.now = START
        self.objects: dict[str, Manifest] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.rejections: dict[str, Rejection] = {}
        self.departed: list[Manifest] = []
        self.events: list[str] = []
        self.writes: list[str] = []
        self.deleted = False
        self.plan: Plan = Plan(status={})
        self._serial = 0

    # What the engine does.

    def step(self) -> Plan:
        """One pass; its effects; and a second one, to see that it changes nothing."""
        self.plan = self.decide()
        self._apply(self.plan)
        self.events += [event.reason for event in self.plan.events]
        self.job["status"] = json.loads(json.dumps(self.plan.status))
        self.deleted = self.plan.delete
        assert_kstatus(self.job)
        return self.plan

    def settle(self, passes: int = 8) -> Plan:
        """Passes until nothing changes any more at this time."""
        for _ in range(passes):
            before = (copy.deepcopy(self.job.get("status")), sorted(self.objects), len(self.writes))
            self.step()
            if before == (self.job["status"], sorted(self.objects), len(self.writes)):
                return self.plan
        raise AssertionError(f"still changing after {passes} passes: {self.job['status']}")

    def decide(self) -> Plan:
        """A plan, without its effects."""
        seen = Seen(
            tuple(copy.deepcopy(list(self.objects.values()))),
            self.facts,
            self.rejections,
            tuple(self.departed),
        )
        before = copy.deepcopy(self.job)
        plan = plan_job(self.job, seen, self.now, self.settings)
        assert self.job == before, "a plan must not change what it is given"
        return plan

    def advance(self, seconds: float) -> Simulation:
        """Time passes."""
        self.now += timedelta(seconds=seconds)
        return self

    def _apply(self, plan: Plan) -> None:
        held = False
        for child in plan.children:
            held |= child.id in self.rejections
            # What carries a pod template waits for all before it.
            if child.id not in self.rejections and not (
                held and "template" in child.manifest.get("spec", {})
            ):
                self._apply_child(child)
        wanted = {child.id for child in plan.children} | plan.keep
        for key in [k for k, o in self.objects.items() if o["kind"] != "Pod" and k not in wanted]:
            self.remove(key)

    def _apply_child(self, child: Child) -> None:
        found = self.objects.get(child.id)
        if found is None:
            assert "spec" in child.manifest or "data" in child.manifest, f"{child.id} would be created empty"
            body = copy.deepcopy(child.manifest)
            self._serial += 1
            body["metadata"] |= {"uid": f"uid-{self._serial}", "creationTimestamp": self.time}
            self.objects[child.id] = body
            self.writes.append(f"create {child.id}")
        elif child.immutable:
            for path, value in child.mutable.items():
                place, last = found[path.split(".")[0]], path.split(".")[1]
                if place.get(last) != value:
                    place[last] = value
                    self.writes.append(f"patch {child.id}")

    def remove(self, key: str) -> None:
        """Deletes an object, and a Job's pods with it."""
        gone = self.objects.pop(key)
        uid = gone["metadata"].get("uid")
        for pod_key, pod in list(self.objects.items()):
            if pod["kind"] == "Pod" and pod["metadata"]["ownerReferences"][0]["uid"] == uid:
                del self.objects[pod_key]

    # What the cluster does.

    @property
    def time(self) -> str:
        """Now, as Kubernetes writes it."""
        return format_time(self.now)

    def named(self, name: str) -> Manifest:
        """One of the Jobs."""
        return self.objects[f"Job/{name}"]

    def jobs(self) -> list[str]:
        """Names of the Jobs that exist."""
        return sorted(o["metadata"]["name"] for o in self.objects.values() if o["kind"] == "Job")

    def pod(self, job: str, index: int = 0) -> PodBuilder:
        """A pod of a Job; put it in with `put`."""
        return PodBuilder(self.named(job), index).created(self.time)

    def put(self, *pods: PodBuilder) -> Simulation:
        """Puts pods in, in place of those with the same names."""
        for pod in pods:
            body = pod.build()
            self.objects[f"Pod/{body['metadata']['name']}"] = body
        return self

    def run(self, job: str, count: int) -> Simulation:
        """The Job's pods run."""
        self.named(job)["status"] = {"active": count, "startTime": self.time}
        return self.put(*[self.pod(job, i).running(self.time) for i in range(count)])

    def end(self, job: str, condition: str) -> Simulation:
        """The Job controller has seen its end."""
        entry = {"type": condition, "status": "True", "lastTransitionTime": self.time}
        self.named(job)["status"] = {"active": 0, "conditions": [entry]}
        return self

    def vanish(self, job: str) -> Simulation:
        """The Job's pods are gone."""
        uid = self.named(job)["metadata"]["uid"]
        gone = [
            k for k, o in self.objects.items()
            if o["kind"] == "Pod" and o["metadata"]["ownerReferences"][0]["uid"] == uid
        ]  # fmt: skip
        for key in gone:
            del self.objects[key]
        return self

    def depart(self, *pods: PodBuilder) -> Simulation:
        """These pods are gone; the watch told of it, with these last states."""
        for pod in pods:
            body = pod.build()
            self.objects.pop(f"Pod/{body['metadata']['name']}", None)
            self.departed.append(body)
        return self

    # Whole stages.

    def prepare(self, **result: Any) -> Simulation:
        """The data gets ready; the first attempt's Job exists afterwards (unless suspended)."""
        self.step()
        name = f"{self.job['metadata']['name']}-prepare-1"
        self.run(name, 1).settle()
        self.advance(5)
        message = {
            "stage": "prepare",
            "outcome": "succeeded",
            "digest": "sha256-d",
            "modelDigest": "sha256-m",
            **result,
        }
        self.put(self.pod(name).ended(0, message)).end(name, "Complete")
        self.settle()
        return self

    def finish_attempt(
        self, job: str, code: int, condition: str, results: list[dict[str, Any]]
    ) -> Simulation:
        """All pods of an attempt end with these results (by node); a pass has seen it."""
        start = self.time
        self.advance(60)
        pods = [self.pod(job, i).ended(code, r, start, self.time) for i, r in enumerate(results)]
        self.put(*pods).end(job, condition)
        self.step()
        return self

    # What a test looks at.

    @property
    def status(self) -> dict[str, Any]:
        """The status."""
        status: dict[str, Any] = self.job["status"]
        return status

    def condition(self, kind: str) -> tuple[str, str]:
        """(status, reason) of a condition; ("absent", "") where there is none."""
        found = conditions_of(self.job).get(kind)
        return (found["status"], found["reason"]) if found else ("absent", "")

    def message(self, kind: str = "Ready") -> str:
        """A condition's message."""
        return str(conditions_of(self.job)[kind]["message"])
