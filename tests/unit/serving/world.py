"""A ModelDeployment on the real engine over a cluster in memory; the world plays the controllers, pods and gateways."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from modelyard.api.conditions import format_time
from modelyard.api.profile import Settings
from modelyard.engine.plan import Key, Manifest, Plan
from modelyard.engine.probe import Age, Probe
from modelyard.features import KINDS
from modelyard.serving.plan import plan_deployment

from tests.builders import make_settings
from tests.crds.admission import refusals
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import Call, Crash, FakeCluster
from tests.fakes.harness import Engine
from tests.kstatus import assert_kstatus, conditions_of

NAMESPACE = "team"
NAME = "sentiment"
KEY = Key("ModelDeployment", NAMESPACE, NAME)
DIGEST = "sha256-" + "1" * 64


def trained_job(digest: str = DIGEST, uid: str = "0c0ffee0", **status: Any) -> Manifest:
    """A TrainingJob that has succeeded."""
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "generation": 1},
        "spec": {"task": "text-classification", "model": {"uri": "pvc://m/b"}, "data": {"sources": []}},
        "status": {
            "observedGeneration": 1,
            "phase": "Succeeded",
            "completionTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": "Done."}],
            "data": {"digest": "sha256-data", "rowsIn": 10, "rowsOut": 10},
            "model": {"uri": f"pvc://{NAME}-storage/runs/{NAMESPACE}/{NAME}-{uid}/model", "digest": digest},
            **status,
        },
    }


def deployment(**spec: Any) -> Manifest:
    """A ModelDeployment of that job."""
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"modelyard.dev/team": "care"}},
        "spec": {"model": {"trainingJobRef": {"name": NAME}}, "replicas": 1, **spec},
    }


def variant(name: str, **fields: Any) -> dict[str, Any]:
    """One variant of a build's result."""
    return {
        "name": name, "folder": f"packages/x/{name}", "bytes": 100, "passed": True, "concurrency": 8.0,
        "requestsPerSecond": 80.0, "agreement": 1.0, "loadSeconds": 5.0, **fields,
    }  # fmt: skip


def built(chosen: str = "none", **fields: Any) -> dict[str, Any]:
    """A build's result."""
    return {
        "stage": "build", "outcome": "succeeded", "digest": DIGEST, "task": "text-classification",
        "maxLength": 128, "chosen": chosen, "variants": [variant(chosen)], **fields,
    }  # fmt: skip


@dataclass
class Load:
    """What the gateways tell."""

    queued: int = 0
    running: int = 0
    arrival_rate: float = 0.0
    finish_rate: float = 0.0
    idle_seconds: float = 0.0

    def put(self, running: int = 0, rate: float = 0.0) -> None:
        """So many run, and so many come and are done each second."""
        self.running, self.arrival_rate, self.finish_rate = running, rate, rate


@dataclass
class World:
    """`result` is what builds end with (None: they run on); `well` are the only revisions whose servers become ready
    (None: all do)."""

    settings: Settings = field(default_factory=make_settings)
    result: dict[str, Any] | None = field(default_factory=built)
    exit_code: int = 0
    well: set[str] | None = None
    words: dict[str, Any] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    deaf: bool = False  # gateways answer no question
    # Since when (Unix seconds) some of them do so, by the names of their probes.
    mute: dict[str, float] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)  # whom the operator hasn't come to ask yet, by the same names
    unavailable: dict[str, Any] | None = None  # what Deployments without a ready pod say
    still: bool = False  # Deployments' controller does nothing
    trouble: str | None = None  # what gateways say that keeps them from following
    slow: bool = False  # gateways go on following the weights that they knew

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster(KINDS)
        self.engine = self._make_engine()
        self.followed: dict[str, int] = {}
        self.highest: int = 0

    # What users do.

    def create(self, *objects: Manifest) -> World:
        """Creates objects, and lets all come to rest."""
        for obj in objects:
            wrong = refusals(obj) if obj["kind"] == "ModelDeployment" else []
            assert not wrong, wrong
            self.cluster.create(obj)
        return self.settle()

    def edit(self, **spec: Any) -> World:
        """Changes the spec."""
        self.cluster.change(KEY, lambda o: o["spec"].update(spec))
        return self.settle()

    def train_anew(self, digest: str) -> World:
        """The job has trained another model under its name."""
        key = Key("TrainingJob", NAMESPACE, NAME)
        new = trained_job(digest, uid=digest[-8:])
        self.cluster.change(key, lambda o: o.update(status=new["status"]))
        return self.settle()

    # What the cluster does.

    def settle(self, rounds: int = 30) -> World:
        """Passes, and what controllers make of them, until nothing changes at this time."""
        for _ in range(rounds):
            before = self._versions()
            self._work()
            self._play()
            self._work()
            if self._versions() == before:
                return self
        raise AssertionError(f"still changing: {self.cluster.operations()[-12:]}")

    def wait(self, seconds: float, step: float = 1.0) -> World:
        """Time passes."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.settle()
        return self

    def let_die(self, number: int, when: str) -> list[Call]:
        """The operator dies once, `before` or `after` this write of its. Returns where the write will stand."""
        died: list[Call] = []

        def die(n: int, call: Call) -> None:
            if n == number and not died:
                died.append(call)
                raise Crash

        setattr(self.cluster, when, die)
        return died

    def restart(self) -> World:
        """Another operator over the same cluster."""
        self.cluster.unwatch()
        self.engine = self._make_engine()
        return self

    def _make_engine(self) -> Engine:
        planners = {
            "ModelDeployment": lambda resource, seen, now: plan_deployment(
                resource, seen, now, self.settings
            ),
            # A job stays as a test has put it.
            "TrainingJob": lambda resource, seen, now: Plan(status=resource["status"]),
        }
        return Engine(self.cluster, clock=self.clock, planners=planners).start()

    def _work(self) -> None:
        while True:
            try:
                asyncio.run(self.engine.settle())
            except Crash:
                self.restart()
                continue
            resource = self.cluster.objects.get(KEY)
            if resource is not None and resource["status"].get("conditions"):
                assert_kstatus(resource)
                assert not refusals(resource), refusals(resource)
            return

    def _play(self) -> None:
        for key, obj in list(self.cluster.objects.items()):
            if key.kind == "Job":
                self._play_job(key, obj)
            elif key.kind == "Deployment" and not self.still:
                self._play_deployment(key, obj)
        if not self.slow:
            self.followed = self.weights()
        self._answer()

    def _play_job(self, key: Key, job: Manifest) -> None:
        if self.result is None or (job.get("status") or {}).get("conditions"):
            return
        state = {"exitCode": self.exit_code, "message": json.dumps(self.result), "reason": "Completed"}
        pod = self._pod(f"{key.name}-0", job, job)
        pod["status"] = {
            "phase": "Failed" if self.exit_code else "Succeeded",
            "containerStatuses": [{"name": "build", "state": {"terminated": state}}],
        }
        self.cluster.create(pod)
        end = "Failed" if self.exit_code else "Complete"
        condition = {"type": end, "status": "True", "lastTransitionTime": self.time}
        self.cluster.change(key, lambda o: o.update(status={"active": 0, "conditions": [condition]}))

    def _play_deployment(self, key: Key, obj: Manifest) -> None:
        size = obj["spec"]["replicas"]
        set_key = Key("ReplicaSet", NAMESPACE, f"{key.name}-rs")
        if set_key not in self.cluster.objects:
            self.cluster.create(
                self._owned("apps/v1", "ReplicaSet", set_key.name, obj, obj["spec"]["template"])
            )
        replica_set = self.cluster.objects[set_key]
        pods = sorted(
            k for k in self.cluster.objects if k.kind == "Pod" and k.name.startswith(f"{key.name}-rs-")
        )
        for k in pods[size:]:
            self.cluster.erase(k)
        revision = obj["metadata"]["labels"].get("modelyard.dev/revision")
        healthy = self.well is None or revision is None or revision in self.well
        for i in range(size):
            k = Key("Pod", NAMESPACE, f"{key.name}-rs-{i}")
            if k not in self.cluster.objects:
                self.cluster.create(self._pod(k.name, replica_set, obj))
            self.report(k, self._run(obj, i) if healthy else self._fail(obj))
        awaited = {"conditions": [self.unavailable]} if self.unavailable and not healthy else {}
        told = {"replicas": size, "updatedReplicas": size, "readyReplicas": size if healthy else 0}
        self.report(key, {"observedGeneration": obj["metadata"]["generation"], **told, **awaited})
        if revision is not None:
            self.highest = max(self.highest, size)

    def report(self, key: Key, status: dict[str, Any]) -> None:
        """An object's own controller writes its status."""
        if self.cluster.objects[key].get("status") != status:
            self.cluster.change(key, lambda o: o.update(status=status))

    def _run(self, obj: Manifest, index: int) -> dict[str, Any]:
        name = obj["spec"]["template"]["spec"]["containers"][0]["name"]
        return {
            "phase": "Running", "podIP": f"10.0.0.{index + 1}",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": name, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
        }  # fmt: skip

    def _fail(self, obj: Manifest) -> dict[str, Any]:
        name = obj["spec"]["template"]["spec"]["containers"][0]["name"]
        ended = {
            "exitCode": 2,
            "reason": "Error",
            "message": json.dumps(self.words),
            **self.words.get("end", {}),
        }
        waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
        return {
            "phase": "Running",
            "containerStatuses": [{"name": name, "state": waiting, "lastState": {"terminated": ended}}],
        }

    def _owned(self, version: str, kind: str, name: str, owner: Manifest, template: Manifest) -> Manifest:
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": dict(template["metadata"]["labels"]),
                "ownerReferences": [
                    {"kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
                     "controller": True}
                ],
            },
        }  # fmt: skip

    def _pod(self, name: str, owner: Manifest, workload: Manifest) -> Manifest:
        pod = self._owned("v1", "Pod", name, owner, workload["spec"]["template"])
        return pod | {"spec": {"nodeName": "node-0"}}

    def _answer(self) -> None:
        """The gateways' answers to what they are asked."""
        answers = self.engine.facts.answers.setdefault(KEY, {})
        ages = self.engine.facts.ages_told.setdefault(KEY, {})
        asked = [p for p in self.engine.facts.watched.get(KEY, ()) if isinstance(p, Probe)]
        now = self.clock.now().timestamp()
        share = max(1, len(asked))
        for probe in asked:
            told = answers.get(probe.name)
            if probe.name in self.late:
                continue
            if self.deaf and told is None:
                self._fall_silent(probe, Age(silent=2.0))  # asked in vain
            if self.deaf:
                continue
            if probe.name in self.mute and told is not None:
                silent = max(2.0, now - self.mute[probe.name])
                self._fall_silent(probe, Age(now - told["time"], silent))
                continue
            window = {
                "queued": self.load.queued / share, "running": self.load.running / share,
                "arrivalRate": self.load.arrival_rate / share, "finishRate": self.load.finish_rate / share,
            }  # fmt: skip
            answer = {
                "time": self.clock.now().timestamp(), "queued": self.load.queued // share,
                "running": self.load.running // share, "stable": window, "panic": window,
                "idleSeconds": self.load.idle_seconds, "coveredSeconds": 60.0, "weights": self.followed,
                "trouble": self.trouble,
            }  # fmt: skip
            if told is not None and probe.wait and told | {"time": 0} == answer | {"time": 0}:
                ages[probe.name] = Age(self.clock.now().timestamp() - told["time"])  # held back
            elif told != answer:
                answers[probe.name] = answer
                ages.pop(probe.name, None)
                self.engine.queue.add(KEY)

    def _fall_silent(self, probe: Probe, age: Age) -> None:
        """It is asked in vain, which is news the first time."""
        ages = self.engine.facts.ages_told[KEY]
        if not ages.get(probe.name, Age()).silent:
            self.engine.queue.add(KEY)
        ages[probe.name] = age

    def _versions(self) -> dict[Key, str]:
        return {k: o["metadata"]["resourceVersion"] for k, o in self.cluster.objects.items()}

    # What a test looks at.

    @property
    def time(self) -> str:
        """Now, as Kubernetes writes it."""
        return format_time(self.clock.now())

    @property
    def status(self) -> dict[str, Any]:
        """The deployment's status."""
        found: dict[str, Any] = self.cluster.objects[KEY]["status"]
        return found

    def condition(self, kind: str) -> tuple[str, str] | None:
        """Status and reason of a condition."""
        found = conditions_of(self.cluster.objects[KEY]).get(kind)
        return (found["status"], found["reason"]) if found else None

    def message(self, kind: str) -> str:
        """A condition's message."""
        return str(conditions_of(self.cluster.objects[KEY])[kind]["message"])

    def names(self, kind: str) -> list[str]:
        """Names of the objects of one kind."""
        return sorted(k.name for k in self.cluster.objects if k.kind == kind)

    def revisions(self) -> dict[str, int]:
        """Servers asked for, by revision id."""
        return {
            o["metadata"]["labels"]["modelyard.dev/revision"]: o["spec"]["replicas"]
            for k, o in self.cluster.objects.items()
            if k.kind == "Deployment" and "modelyard.dev/revision" in o["metadata"]["labels"]
        }

    def weights(self) -> dict[str, int]:
        """Percent of the requests, by revision id."""
        return {
            o["metadata"]["labels"]["modelyard.dev/revision"]: int(
                o["metadata"]["labels"]["modelyard.dev/weight"]
            )
            for k, o in self.cluster.objects.items()
            if k.kind == "Service" and "modelyard.dev/weight" in o["metadata"]["labels"]
        }

    def probes(self) -> list[Probe]:
        """The questions that are asked."""
        return [p for p in self.engine.facts.watched.get(KEY, ()) if isinstance(p, Probe)]
