"""Whatever dies, training goes on from the newest verified checkpoint and ends as if nothing had happened."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.dashboards import BOARDS, choose
from tests.e2e.boards import check_board
from tests.e2e.harness import Kube, TrainingJob
from tests.e2e.interruptions import check_goodput, kill_ranks
from tests.e2e.jobs import classification
from tests.e2e.scraping import Prometheus
from tests.e2e.setup import OperatorDeployment
from tests.e2e.storage import Reader

STEPS = 50
# What such a run leaves empty, by dashboard and title.
EMPTY = {"fleet": {"Jobs that need a look": "nothing goes wrong in it for long"}}


def slow(**changes: Any) -> dict[str, Any]:
    """Two pods, long enough to be interrupted: a step takes some tenths of a second. The data has a warning."""
    spec = classification(steps=STEPS, nodes=2, **changes)
    (source,) = spec["data"]["sources"]
    spec["data"]["sources"].append({**source, "name": "more", "uri": "configmap://reviews/contradiction.csv"})
    spec["training"] = {**spec["training"], "globalBatchSize": 32, "seed": 11, "evalSteps": STEPS // 2}
    spec["model"] = {
        "config": {
            **spec["model"]["config"],
            "hidden_size": 256,
            "num_hidden_layers": 6,
            "intermediate_size": 1024,
        }
    }
    return spec


def losses(reader: Reader) -> list[tuple[int, float]]:
    """(step, loss) as the trainer's own history has them, over all attempts."""
    find = (
        f"import glob; print(open(sorted(glob.glob('a*/checkpoint-{STEPS}/trainer_state.json'))[-1]).read())"
    )
    history = json.loads(reader.execute(find))["log_history"]
    return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


@pytest.fixture(scope="module")
def undisturbed(
    kube: Kube, reviews: None, read_run: Callable[[TrainingJob], Reader]
) -> list[tuple[int, float]]:
    """The loss curve of a run that nothing happened to."""
    job = TrainingJob(kube, "undisturbed", slow()).create()
    job.wait_succeeded(300)
    curve = losses(read_run(job))
    job.delete()
    assert len(curve) == STEPS
    return curve


@dataclass(frozen=True)
class Run:
    """A run of which a pod was deleted."""

    name: str
    reached: int  # steps done before that, at least
    status: dict[str, Any]
    curve: list[tuple[int, float]]
    start: float
    end: float  # both Unix times


@pytest.fixture(scope="module")
def preempted(
    kube: Kube, reviews: None, prometheus: Prometheus, read_run: Callable[[TrainingJob], Reader]
) -> Run:
    """Deleted as a drain does it, with a grace period; Prometheus looks on."""
    labels = {"modelyard.dev/project": "films", "modelyard.dev/team": "critics"}
    start, reached = time.time(), 15
    job = TrainingJob(kube, "preempted", slow(), labels).create()
    try:
        job.wait_step(reached)
        victim = kube.pods(job.name)[-1]["metadata"]["name"]
        kube.delete("pod", victim)
        status, end = job.wait_succeeded(300), time.time()
        return Run(job.name, reached, status, losses(read_run(job)), start, end)
    finally:
        job.delete()


def test_a_deleted_pod_costs_no_step_and_leaves_the_loss_curve_as_it_was(
    preempted: Run, undisturbed: list[tuple[int, float]]
) -> None:
    first, second = preempted.status["attempts"][-2:]
    assert first["cause"] == "Preempted"
    assert first["lostSteps"] == 0
    assert first["toStep"] >= preempted.reached
    assert second["fromStep"] == first["toStep"]
    assert preempted.status["counters"]["preemptions"] == 1
    assert preempted.status["counters"]["userFailures"] == 0
    check_goodput(preempted.status)
    assert [step for step, _ in preempted.curve] == [step for step, _ in undisturbed]
    assert [loss for _, loss in preempted.curve] == pytest.approx([loss for _, loss in undisturbed], rel=1e-4)


def test_every_panel_of_the_dashboards_shows_something_of_such_a_run(
    kube: Kube, operator: OperatorDeployment, prometheus: Prometheus, preempted: Run
) -> None:
    installed = [
        json.loads(*each["data"].values()) for each in operator.kube.find("configmaps", "grafana_dashboard=1")
    ]
    assert {board["uid"]: board for board in installed} == {board["uid"]: board for board in BOARDS.values()}
    for name in BOARDS.keys() - {"deployments"}:
        chosen = choose(name, kube.namespace, preempted.name)
        check_board(prometheus, name, chosen, EMPTY.get(name, {}), preempted.start, preempted.end)


def test_a_killed_rank_goes_on_from_the_last_verified_checkpoint_and_a_torn_one_is_passed_over(
    kube: Kube, undisturbed: list[tuple[int, float]], read_run: Callable[[TrainingJob], Reader]
) -> None:
    job = TrainingJob(kube, "killed", slow(checkpoint={"every": {"steps": 10}, "keepLast": 3})).create()
    job.wait_step(1)
    reader = read_run(job)
    saved = job.wait(
        "a verified checkpoint", lambda s: s.get("checkpoints", {}).get("last", {}).get("step", 0) >= 20, 60
    )
    # Torn by hand: newer than every good one, and with a file cut short.
    folder = f"a{saved['attempt']}/checkpoint-"
    reader.execute(
        "import glob, os, shutil\n"
        f"good = max(glob.glob('{folder}*/manifest.json'), key=os.path.getmtime)\n"
        f"shutil.copytree(os.path.dirname(good), '{folder}{STEPS - 1}')\n"
        f"os.truncate('{folder}{STEPS - 1}/model.safetensors', 100)"
    )
    kill_ranks(kube, job.name)
    status = job.wait_succeeded(300)
    restarts = (
        status["counters"]["processRestarts"]
        + status["counters"]["userFailures"]
        + status["counters"]["infraFailures"]
    )
    assert restarts >= 1
    resumed = status["attempts"][-1]["fromStep"]
    assert resumed >= 20
    assert resumed % 10 == 0, "the torn one was taken"
    check_goodput(status)
    assert [loss for _, loss in losses(reader)] == pytest.approx([loss for _, loss in undisturbed], rel=1e-4)
    job.delete()


def test_the_operator_may_be_away_while_the_job_ends(kube: Kube, reviews: None, operator: Any) -> None:
    job = TrainingJob(kube, "unattended", classification(steps=200, nodes=2)).create()
    job.wait_step(5)
    operator.kill()
    try:
        operator.wait_job_complete(kube, f"{job.name}-train-1", 180)
    finally:
        operator.start()
    status = job.wait_succeeded(60)
    assert status["progress"]["step"] == 200
    assert status["attempt"] == 1
    assert status["model"]["digest"]
    job.delete()
