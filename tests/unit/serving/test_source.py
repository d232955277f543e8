"""Which model is served, and why not."""

from __future__ import annotations

from typing import Any

import pytest
from modelyard.api.modeldeployment import ModelDeploymentSpec
from modelyard.engine.plan import Key, Manifest
from modelyard.serving.source import Source, find, find_references
from modelyard.workloads.problem import Problem

from tests.unit.training.test_lifecycle import success, train

KEY = Key("TrainingJob", "team", "sentiment")
MODEL = {"uri": "pvc://sentiment-storage/runs/team/sentiment-0c0ffee0/model", "digest": "sha256-1"}


def spec(**model: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"trainingJobRef": {"name": "sentiment"}, **model}})


def job(ready: str, reason: str, *, ended: bool = True, generation: int = 1, **status: Any) -> Manifest:
    return {
        "metadata": {"name": "sentiment", "generation": generation},
        "spec": {"task": "text-classification"},
        "status": {
            "observedGeneration": 1,
            **({"completionTime": "2026-01-01T00:00:00Z"} if ended else {}),
            "conditions": [{"type": "Ready", "status": ready, "reason": reason, "message": "It says why."}],
            **status,
        },
    }


def test_a_model_that_lies_somewhere_is_taken_as_it_is_written() -> None:
    named = ModelDeploymentSpec.model_validate({"model": {"uri": "hf://org/name", "revision": "v1"}})
    assert find_references("team", named) == frozenset()
    assert find("team", named, {}) == Source("hf://org/name", revision="v1")


def test_the_model_of_a_job_that_succeeded_is_served_by_its_digest() -> None:
    assert find_references("team", spec()) == {KEY}
    found = find("team", spec(), {KEY: job("True", "Succeeded", model=MODEL)})
    storage = "pvc://sentiment-storage"
    assert found == Source(
        MODEL["uri"], "sha256-1", task="text-classification", job="sentiment", storage=storage
    )
    data = {"digest": "sha256-2", "rowsIn": 1, "rowsOut": 1}
    with_data = find("team", spec(), {KEY: job("True", "Succeeded", model=MODEL, data=data)})
    assert isinstance(with_data, Source)
    assert with_data.dataset == f"{storage}/datasets/sha256-2"


def test_a_model_that_lies_outside_of_the_layout_tells_no_storage() -> None:
    moved = {"uri": "pvc://mine/exported", "digest": "sha256-1"}
    found = find("team", spec(), {KEY: job("True", "Succeeded", model=moved)})
    assert isinstance(found, Source)
    assert (found.storage, found.dataset) == (None, None)


@pytest.mark.parametrize(
    "root", ["pvc://shared/yard", "pvc://shared", "pvc://shared/runs", "pvc://shared/runs/runs"]
)
def test_the_storage_of_a_job_is_found_whatever_its_folders_are_called(root: str) -> None:
    lies = {"uri": f"{root}/runs/runs/sentiment-0c0ffee0/model", "digest": "sha256-1"}
    key = Key("TrainingJob", "runs", "sentiment")
    found = find("runs", spec(), {key: job("True", "Succeeded", model=lies, data={"digest": "sha256-2"})})
    assert isinstance(found, Source)
    assert (found.storage, found.dataset) == (root, f"{root}/datasets/sha256-2")


@pytest.mark.parametrize(
    ("seen", "reason", "fatal", "words"),
    [
        (None, "TrainingJobNotFound", False, "no TrainingJob sentiment in this namespace"),
        (job("False", "Progressing", ended=False, phase="Training"), "WaitingForTraining", False, "is Training"),
        (job("True", "Succeeded", model=MODEL, generation=2), "WaitingForTraining", False, "once it has succeeded"),
        (job("False", "GateFailed", model=MODEL), "GateFailed", True, "set spec.model.allowGateFailed"),
        (job("False", "UserCodeError"), "TrainingFailed", True, "has no model to serve: It says why."),
        (job("False", "UserCodeError", model=MODEL), "TrainingFailed", True, "has no model to serve"),
        (job("True", "Succeeded"), "TrainingFailed", True, "has no model to serve"),
    ],
)  # fmt: skip
def test_why_a_jobs_model_is_not_served(seen: Manifest | None, reason: str, fatal: bool, words: str) -> None:
    found = find("team", spec(), {KEY: seen})
    assert isinstance(found, Problem)
    assert (found.reason, found.fatal) == (reason, fatal)
    assert words in found.message


def test_a_model_that_missed_its_gate_is_served_where_that_is_wanted() -> None:
    found = find("team", spec(allowGateFailed=True), {KEY: job("False", "GateFailed", model=MODEL)})
    assert isinstance(found, Source)
    failed = find("team", spec(allowGateFailed=True), {KEY: job("False", "LossNaN", model=MODEL)})
    assert isinstance(failed, Problem)


def test_a_real_jobs_status_is_read_as_its_plan_writes_it() -> None:
    simulation = train()
    running = find("team", spec(), {KEY: simulation.job})
    assert isinstance(running, Problem) and running.reason == "WaitingForTraining"
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [success()] * 2)
    ended = find("team", spec(), {KEY: simulation.job})
    assert isinstance(ended, Source)
    assert (ended.uri, ended.digest) == ("pvc://sentiment-storage/runs/x/model", "sha256-model")
    assert ended.task == "text-classification"


def test_a_real_jobs_missed_gate_is_told_with_its_numbers() -> None:
    simulation = train()
    missed = {"metric": "eval_loss", "value": 0.3, "threshold": 0.2, "passed": False}
    result = {**success(gate=missed), "outcome": "gateFailed"}
    simulation.finish_attempt("sentiment-train-1", 0, "Complete", [result] * 2)
    found = find("team", spec(), {KEY: simulation.job})
    assert isinstance(found, Problem)
    assert (found.reason, found.fatal) == ("GateFailed", True)
    assert "eval_loss" in found.message
    assert isinstance(find("team", spec(allowGateFailed=True), {KEY: simulation.job}), Source)
