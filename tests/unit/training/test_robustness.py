"""Whatever users and clusters write, a plan never raises, keeps kstatus' rules, and says the same twice."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelyard.api.status import TrainingJobStatus
from modelyard.engine.plan import Plan, Rejection

from tests.builders import TrainingJobBuilder
from tests.unit.training.simulation import Simulation

LIMIT = 64 * 1024
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
PATHS = [
    "task",
    "model",
    "model.uri",
    "model.config",
    "data",
    "data.sources",
    "data.split.validation",
    "training",
    "training.args",
    "training.globalBatchSize",
    "training.optim",
    "deepspeed",
    "deepspeed.config",
    "trainer",
    "trainer.numNodes",
    "trainer.numProcPerNode",
    "trainer.resourcesPerNode",
    "trainer.podTemplate",
    "trainer.env",
    "trainer.command",
    "storage",
    "storage.uri",
    "checkpoint",
    "gate",
    "failurePolicy",
    "suspend",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "output",
    "profile",
    "unknown",
]
states = st.sampled_from(
    [
        "running",
        "ok",
        "gate",
        "crash",
        "oom",
        "stopped",
        "temporary",
        "evicted",
        "deleted",
        "pull",
        "unscheduled",
        "junk",
        "gone",
        "meshed ok",
        "meshed crash",
        "meshed stopped",
        "unstartable",
        "no name",
    ]
)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0, 1, 20, 100, 2000])),
        st.tuples(st.just("pods"), st.lists(states, min_size=2, max_size=2)),
        st.tuples(st.just("end"), st.sampled_from(["Complete", "Failed", "FailureTarget", "active"])),
        st.tuples(st.just("suspend"), st.booleans()),
        st.tuples(st.just("delete"), st.sampled_from(["Job", "Service", "PersistentVolumeClaim"])),
        st.tuples(st.just("reject"), st.sampled_from(["Invalid", "QuotaExceeded", ""])),
        st.tuples(st.just("report"), st.one_of(junk, st.integers(0, 100))),
        st.tuples(st.just("refuse"), st.text(max_size=200)),
        st.tuples(st.just("hold"), st.booleans()),
        st.tuples(st.just("crash"), st.none()),
    ),
    max_size=25,
)
slow = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(simulation: Simulation, plan: Plan) -> None:
    assert simulation.decide() is not None
    text = json.dumps(plan.status)
    assert len(text) < LIMIT
    TrainingJobStatus.model_validate_json(text)
    ids = [child.id for child in plan.children]
    assert len(ids) == len(set(ids))
    assert not plan.keep & set(ids)
    assert plan.requeue_after is None or plan.requeue_after > 0


@slow
@given(st.sampled_from(PATHS), junk)
def test_any_value_in_any_field_is_carried_out_or_refused(path: str, value: Any) -> None:
    job = TrainingJobBuilder()
    body = job.build()
    *folders, last = path.split(".")
    place = body["spec"]
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value
    simulation = Simulation(job)
    simulation.job = body
    check(simulation, simulation.step())
    suspended = simulation.condition("Ready") == ("False", "Suspended")
    assert bool(simulation.objects) != (simulation.condition("Stalled")[0] == "True" or suspended)


@slow
@given(
    st.dictionaries(
        st.sampled_from([*TrainingJobStatus.model_json_schema()["properties"], "x"]), junk, max_size=3
    )
)
def test_a_status_that_someone_spoilt_is_no_end(status: dict[str, Any]) -> None:
    simulation = Simulation(TrainingJobBuilder().status(status))
    simulation.decide()


@slow
@given(moves)
def test_any_course_of_events_is_survived(course: list[tuple[str, Any]]) -> None:
    simulation = Simulation(TrainingJobBuilder().nodes(2).gate(0.5).spec("activeDeadlineSeconds", 3000))
    finished: dict[str, Any] | None = None
    for move, value in course:
        play(simulation, move, value)
        jobs = simulation.jobs()
        attempts = len(simulation.status.get("attempts", [])) if simulation.job.get("status") else 0
        check(simulation, simulation.step())
        recorded = simulation.status.get("attempts", [])
        assert [a["index"] for a in recorded] == sorted({a["index"] for a in recorded}), (
            "attempts are counted once each"
        )
        assert len(recorded) <= attempts + 1
        assert all("cause" in a for a in recorded[:-1]), (
            "the next attempt begins only when the last one has ended"
        )
        if finished is not None:
            assert set(simulation.jobs()) <= set(jobs), "nothing is created after the end"
            assert simulation.status["phase"] == finished["phase"], "the end stays the end"
        elif "completionTime" in simulation.status:
            finished = copy.deepcopy(simulation.status)


def play(simulation: Simulation, move: str, value: Any) -> None:
    """One thing that happens in the cluster."""
    jobs = simulation.jobs()
    newest = max(jobs, key=lambda n: (int(n.rsplit("-", 1)[1]), "train" in n), default=None)
    if any("-train-" in name for name in jobs):
        newest = max((n for n in jobs if "-train-" in n), key=lambda n: int(n.rsplit("-", 1)[1]))
    if move == "wait":
        simulation.now += timedelta(seconds=value)
    elif move == "suspend":
        simulation.job["spec"]["suspend"] = value
        simulation.job["metadata"]["generation"] += 1
    elif move == "delete":
        for key in [k for k in simulation.objects if k.startswith(f"{value}/")][:1]:
            simulation.remove(key)
    elif move == "reject":
        simulation.rejections = {}
        if value:
            simulation.rejections = {c.id: Rejection(value, "no") for c in simulation.plan.children}
    elif move == "report":
        fact = (
            {"step": value, "state": "training", "maxSteps": 100}
            if isinstance(value, int)
            else {"state": value}
        )
        simulation.facts = {f"train-{i}": fact for i in range(4)}
    elif move == "refuse":
        events = {"events": [{"reason": "FailedCreate", "message": value}]}
        simulation.facts = {f"events-{o['metadata'].get('uid')}": events for o in simulation.objects.values()}
    elif move == "hold":
        if newest is not None:
            simulation.named(newest)["spec"]["suspend"] = value
    elif move == "crash":
        simulation._apply(simulation.decide())
    elif newest is not None and move == "end":
        if value == "active":
            simulation.named(newest)["status"] = {"active": 2, "startTime": simulation.time}
        else:
            simulation.end(newest, value)
    elif newest is not None:
        put_pods(simulation, newest, value)


def put_pods(simulation: Simulation, job: str, wanted: list[str]) -> None:
    """Pods of a Job in these states."""
    simulation.vanish(job)
    stage = "prepare" if "-prepare-" in job else "train"
    attempt = int(job.rsplit("-", 1)[1])
    for index, state in enumerate(wanted[: 1 if stage == "prepare" else 2]):
        pod = simulation.pod(job, index)
        result = {
            "stage": stage,
            "attempt": attempt,
            "step": 10 * attempt,
            "digest": "sha256-d",
            "metrics": {"eval_loss": 0.4},
        }
        ends: dict[str, tuple[int, Any]] = {
            "ok": (0, {**result, "outcome": "succeeded"}),
            "gate": (0, {**result, "outcome": "gateFailed"}),
            "crash": (1, {**result, "outcome": "failed"}),
            "temporary": (75, {**result, "outcome": "failed"}),
            "stopped": (143, {**result, "outcome": "preempted"}),
            "junk": (1, "{"),
        }
        if state.removeprefix("meshed ") in ends:
            pod.ended(*ends[state.removeprefix("meshed ")], start=simulation.time, end=simulation.time)
            if state.startswith("meshed"):
                pod.beside()
        elif state == "unstartable":
            pod.ended(128, "no space left on device", reason="StartError")
        elif state == "no name":
            pod.waiting("InvalidImageName")
        elif state == "oom":
            pod.ended(137, reason="OOMKilled")
        elif state == "running":
            pod.running(simulation.time)
        elif state == "deleted":
            pod.running(simulation.time).deleted(simulation.time)
        elif state == "evicted":
            pod.evicted()
        elif state == "pull":
            pod.waiting("ImagePullBackOff")
        elif state == "unscheduled":
            pod.unscheduled("no node")
        if state != "gone":
            simulation.put(pod)
