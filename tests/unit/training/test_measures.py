"""The series of a single job: those that its status says, bounded, and gone with its end."""

from __future__ import annotations

from typing import Any

from modelyard.engine.measure import Sample
from modelyard.engine.plan import Key
from modelyard.features import FEATURES
from modelyard.telemetry.metrics import Metrics
from modelyard.training.status.measures import FAMILIES, is_live, read

from tests.builders import TrainingJobBuilder
from tests.unit.training.simulation import Simulation
from tests.unit.training.test_lifecycle import checkpoint, report, success, train, train_result

KEY = Key("TrainingJob", "team", "sentiment")


def found(simulation: Simulation) -> dict[tuple[str, ...], float]:
    samples = list(read(simulation.job))
    short = {(s.family.removeprefix("modelyard_trainingjob_"), *s.labels): s.value for s in samples}
    assert len(short) == len(samples), "no series twice"
    return short


def test_a_job_has_the_series_of_all_that_its_status_says() -> None:
    simulation = train(2)
    told = report(
        30, stepSeconds=0.5, samplesPerSecond=64.0, secondsLeft=35.0, metrics={"loss": 0.25, "eval_f1": 0.8},
        lastCheckpoint=checkpoint(20), seconds={"starting": 20.0, "training": 60.0},
    )  # fmt: skip
    simulation.facts["train-1"] = told
    simulation.advance(600).settle()
    values = found(simulation)
    assert values["phase", "Training"] == 1
    assert values["condition", "CheckpointSafe"] == 1
    assert values["condition", "Ready"] == 0
    assert (values["step",], values["max_steps",], values["step_seconds",]) == (30, 100, 0.5)
    assert (values["metric", "loss"], values["metric", "eval_f1"]) == (0.25, 0.8)
    assert values["samples_per_second",] == 64
    assert values["estimated_completion_timestamp_seconds",] == told["updated"] + 35
    assert (values["checkpoint_step",], values["checkpoint_timestamp_seconds",]) == (20, 1_767_225_600)
    assert values["checkpoint_max_lost_seconds",] == 600
    assert values["attempt_start_timestamp_seconds",] == values["start_timestamp_seconds",] + 5
    assert (values["pods", "desired"], values["pods", "ready"], values["attempt",]) == (2, 2, 1)
    assert values["state_seconds", "productive"] == 60
    assert values["goodput_ratio",] == 0.75
    assert values["resource_hours", "cpu"] == simulation.status["cost"]["hours"]["cpu"]
    assert {name for name, *_ in values} <= {f.name.removeprefix("modelyard_trainingjob_") for f in FAMILIES}


def test_interruptions_are_counted_from_none() -> None:
    values = found(train(2))
    causes = ("user", "infrastructure", "preemption", "process")
    assert [values["interruptions", cause] for cause in causes] == [0, 0, 0, 0]


def test_what_went_wrong_and_what_looks_wrong_is_counted() -> None:
    warnings = [
        {"reason": "LeakedTexts", "count": 12, "message": "x"},
        {"reason": "ConstantColumn", "message": "x"},
        {"reason": "LeakedTexts", "count": 3, "message": "y"},
    ]
    simulation = Simulation(TrainingJobBuilder()).prepare(rowsIn=100, rowsOut=90, warnings=warnings)
    simulation.run("sentiment-train-1", 1).settle()
    failure = {"reason": "NodeShutdown", "message": "gone"}
    result = train_result("failed", 40, lostSteps=7, failure=failure)
    simulation.finish_attempt("sentiment-train-1", 1, "Failed", [result])
    values = found(simulation)
    assert (values["rows", "in"], values["rows", "out"]) == (100, 90)
    assert (values["data_warning", "LeakedTexts"], values["data_warning", "ConstantColumn"]) == (15, 1)
    assert sum(values["interruptions", c] for c in ("user", "infrastructure", "preemption", "process")) == 1
    assert values["lost_steps",] == 7


def test_a_job_has_no_series_before_its_first_pod_and_after_its_end() -> None:
    assert list(read(TrainingJobBuilder().build())) == []
    assert not is_live(TrainingJobBuilder().build())
    simulation = train(1)
    assert FEATURES[0].measure is not None
    metrics = Metrics({"TrainingJob": FEATURES[0].measure}, lambda key: simulation.job)
    assert "modelyard_trainingjob_phase{" not in metrics.render().decode(), "nobody has looked at it"
    metrics.holds(KEY, simulation.job)
    text = metrics.render().decode()
    assert 'modelyard_trainingjob_phase{name="sentiment",namespace="team",phase="Starting"} 1.0' in text
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()])
    assert "modelyard_trainingjob_phase{" not in metrics.render().decode(), "not even before the pass"
    metrics.holds(KEY, simulation.job)
    assert not is_live(simulation.job)


def test_a_status_that_another_release_wrote_has_the_series_that_can_be_read() -> None:
    job: dict[str, Any] = TrainingJobBuilder().build()
    job["status"] = {
        "startTime": "2026-01-01T00:00:00Z",
        "progress": {"step": "many"},
        "cost": 3,
        "phase": "New",
    }
    names = {sample.family.removeprefix("modelyard_trainingjob_") for sample in read(job)}
    assert names == {
        "info",
        "phase",
        "start_timestamp_seconds",
        "checkpoint_max_lost_seconds",
        "interruptions",
    }


def test_every_sample_has_a_family_and_as_many_labels() -> None:
    labels = {family.name: len(family.labels) for family in FAMILIES}
    assert len(labels) == len(FAMILIES)
    simulation = train(2)
    simulation.facts["train-1"] = report(
        30, secondsLeft=5.0, metrics={"loss": 1.0}, lastCheckpoint=checkpoint(20)
    )
    simulation.settle()
    for sample in read(simulation.job):
        assert isinstance(sample, Sample)
        assert len(sample.labels) == labels[sample.family]
