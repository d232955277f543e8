"""The CRDs on a real API server."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from modelyard.api.transitions import FROZEN

from tests.crds.corpus import INVALID, VALID, expectation, manifest

Kubectl = Callable[..., "CompletedProcess[str]"]
CRDS = Path(__file__).parents[2] / "crds"


class Jobs:
    """TrainingJobs of one namespace, by kubectl."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self._kubectl = kubectl
        self._namespace = namespace

    def __call__(self, *arguments: str, **options: Any) -> CompletedProcess[str]:
        return self._kubectl("--namespace", self._namespace, *arguments, **options)

    def create(self, job: dict[str, Any], **options: Any) -> CompletedProcess[str]:
        return self("create", "-f", "-", input=json.dumps(job), **options)

    def change(self, patch: dict[str, Any], *, check: bool = True) -> CompletedProcess[str]:
        return self("patch", "tj", "job", "--type=merge", "--patch", json.dumps(patch), check=check)

    def report(self, **status: Any) -> None:
        """Writes the status as the operator does: by server-side apply on the subresource."""
        job = {
            "apiVersion": "modelyard.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": "job"},
            "status": status,
        }
        self("apply", "--server-side", "--subresource=status", "--field-manager=modelyard-status", "-f", "-",
             input=json.dumps(job))  # fmt: skip

    def read(self, name: str = "job", kind: str = "tj") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", kind, name, "--output=json").stdout)
        return found


@pytest.fixture
def jobs(kubectl: Kubectl, namespace: str) -> Jobs:
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/trainingjobs.modelyard.dev",
            "crd/modeldeployments.modelyard.dev")  # fmt: skip
    return Jobs(kubectl, namespace)


@pytest.fixture
def started(jobs: Jobs) -> Jobs:
    """A job whose first attempt runs."""
    job = manifest(CORPUS["minimal"])
    job["spec"]["training"] = {"learningRate": 2e-5, "args": {"a": 1, "b": {"c": 2}}}
    jobs.create(job)
    jobs.report(observedGeneration=1, attempt=1)
    return jobs


CORPUS = {path.stem: path for path in (*VALID, *INVALID)}


def test_is_accepted_without_a_complaint(jobs: Jobs) -> None:
    crd = json.loads(jobs("get", "crd", "trainingjobs.modelyard.dev", "--output=json").stdout)
    conditions = {c["type"]: c["status"] for c in crd["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_stores_a_valid_resource_exactly_as_it_was_written(path: Path, jobs: Jobs) -> None:
    jobs("create", "-f", str(path))
    wanted = manifest(path)
    stored = jobs.read(wanted["metadata"]["name"], wanted["kind"])
    # The one default that is stored, since the scale subresource can't be read without it.
    default = {"replicas": 1} if wanted["kind"] == "ModelDeployment" else {}
    assert stored["spec"] == default | wanted["spec"]
    assert stored["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_refuses_an_invalid_resource_with_the_message_expected(path: Path, jobs: Jobs) -> None:
    refused = jobs("create", "-f", str(path), check=False)
    assert refused.returncode != 0
    assert expectation(path) in refused.stderr
    assert jobs("get", "tj,md", "--output=name").stdout == ""


def test_numbers_need_no_quotes_and_a_second_apply_changes_nothing(jobs: Jobs) -> None:
    text = CORPUS["from-scratch"].read_text(encoding="utf-8")
    assert "learningRate: 2e-5" in text
    jobs("apply", "-f", "-", input=text)
    assert jobs.read("a" * 40)["spec"]["training"]["learningRate"] == 2e-5
    assert "unchanged" in jobs("apply", "-f", "-", input=text).stdout
    assert jobs("diff", "-f", "-", input=text).stdout == ""
    assert jobs.read("a" * 40)["metadata"]["generation"] == 1


def test_explains_its_fields(jobs: Jobs) -> None:
    training = jobs("explain", "tj.spec.training").stdout
    assert "How to train, in the words of transformers' TrainingArguments." in " ".join(training.split())
    assert "Peak learning rate, as 2e-5. Default: 5e-05." in " ".join(training.split())
    gate = jobs("explain", "trainingjobs.spec.gate.metric").stdout
    assert "eval_f1" in gate
    assert "<no description>" not in jobs("explain", "tj.spec", "--recursive").stdout


def test_is_listed_by_its_short_name_and_category_with_progress(jobs: Jobs) -> None:
    jobs.create(manifest(CORPUS["minimal"]))
    ready = {"type": "Ready", "status": "Unknown", "reason": "Training", "message": "2 pods train"}
    jobs.report(
        observedGeneration=1,
        phase="Training",
        attempt=1,
        conditions=[{**ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        progress={
            "step": 12,
            "maxSteps": 100,
            "percent": 12,
            "metrics": {"loss": 0.4375},
            "estimatedCompletionTime": "2099-01-01T00:00:00Z",
        },
        goodput={"ratio": 0.9375, "seconds": {"productive": 15.0, "saving": 1.0}},
        cost={"hours": {"nvidia.com/gpu": 2.5}, "currency": "EUR", "amount": 6.25},
        gate={"metric": "eval_loss", "value": 0.5, "passed": True},
    )
    header, row = jobs("get", "tj").stdout.splitlines()
    assert header.split() == ["NAME", "PHASE", "STEP", "OF", "PERCENT", "LOSS", "ETA", "REASON", "AGE"]
    assert row.split()[:-1] == [
        "job", "Training", "12", "100", "12", "0.4375", "2099-01-01T00:00:00Z", "Training",
    ]  # fmt: skip
    wide = jobs("get", "tj", "--output=wide").stdout.splitlines()
    assert wide[0].split()[-5:] == ["ATTEMPT", "GOODPUT", "COST", "GATE", "MESSAGE"]
    assert wide[1].split()[-7:] == ["1", "0.9375", "6.25", "0.5", "2", "pods", "train"]
    assert jobs("get", "modelyard", "--output=name").stdout == "trainingjob.modelyard.dev/job\n"
    assert "job" in jobs("get", "tj", "--field-selector=status.phase=Training", "--output=name").stdout
    assert jobs("get", "tj", "--field-selector=status.phase=Failed", "--output=name").stdout == ""


def test_warnings_about_the_data_are_stored_and_bounded(jobs: Jobs) -> None:
    jobs.create(manifest(CORPUS["minimal"]))
    warnings = [
        {"reason": "LeakedTexts", "count": 2**53 - 1, "message": "ü" * 1024},
        # Two of one reason: the list is no map.
        *({"reason": "W" * 128, "message": ""} for _ in range(31)),
    ]
    data = {"digest": "sha256-d", "rowsIn": 9, "rowsOut": 8}
    jobs.report(observedGeneration=1, data={**data, "warnings": warnings})
    assert jobs.read()["status"]["data"]["warnings"] == warnings
    with pytest.raises(AssertionError, match="must have at most 32 items"):
        jobs.report(observedGeneration=1, data={**data, "warnings": [*warnings, warnings[0]]})


CHANGES: dict[str, Any] = {
    "task": "text-generation",
    "model": {"uri": "hf://org/other"},
    "data": {"split": {"seed": 1}},
    "training": {"args": {"b": {"c": 3}}},
    "deepspeed": {"zeroStage": 1},
    "storage": {"claim": {"size": "1Gi"}},
    "output": {"name": "other"},
}


@pytest.mark.parametrize("field", FROZEN)
def test_what_was_trained_can_change_until_the_start_only(field: str, jobs: Jobs) -> None:
    jobs.create(manifest(CORPUS["minimal"]))
    jobs.change({"spec": {field: CHANGES[field]}})
    jobs.report(observedGeneration=1, prepareAttempt=1)
    before = jobs.read()["spec"]
    for undone in ({field: None}, {field: _other(CHANGES[field])}):
        refused = jobs.change({"spec": undone}, check=False)
        assert refused.returncode != 0
        assert (
            f"{field} can't change once the job has started: create a job with another name" in refused.stderr
        )
    assert jobs.read()["spec"] == before


def _other(value: Any) -> Any:
    """The same value with its innermost one replaced."""
    if isinstance(value, dict):
        return {name: _other(inner) for name, inner in value.items()}
    return {"text-generation": "text-classification", "1Gi": "2Gi"}.get(
        value, 2 if isinstance(value, int) else "pvc://x"
    )


def test_the_pods_can_change_only_while_the_job_is_suspended(started: Jobs) -> None:
    nodes = {"trainer": {"numNodes": 2, "numProcPerNode": 1}}
    refused = started.change({"spec": nodes}, check=False)
    assert "trainer can change only while the job is suspended: set suspend to true first" in refused.stderr
    started.change({"spec": {"suspend": True}})
    started.change({"spec": nodes})
    started.change({"spec": {"suspend": False, "trainer": {"numNodes": 3}}})
    assert "set suspend to true first" in started.change({"spec": {"trainer": None}}, check=False).stderr


def test_the_size_of_the_pod_that_prepares_can_change_while_the_job_is_suspended(started: Jobs) -> None:
    smaller = {"data": {"resources": {"limits": {"memory": "1Gi"}}}}
    refused = started.change({"spec": smaller}, check=False)
    assert "data.resources can change only while the job is suspended" in refused.stderr
    started.change({"spec": {"suspend": True}})
    started.change({"spec": smaller})
    refused = started.change({"spec": {"data": {"split": {"seed": 9}}}}, check=False)
    assert "data can't change once the job has started" in refused.stderr


def test_policies_can_change_while_the_job_runs(started: Jobs) -> None:
    policies = {
        "gate": {"max": 0.5},
        "failurePolicy": {"maxRestarts": 9},
        "activeDeadlineSeconds": 60,
        "ttlSecondsAfterFinished": 60,
        "checkpoint": {"keepLast": 5},
    }
    started.change({"spec": policies})
    started.report(observedGeneration=2, attempt=2)
    assert started.read()["status"]["attempt"] == 2


def test_a_user_cannot_lift_a_rule_by_sending_another_status(started: Jobs) -> None:
    job = started.read()
    job["status"] = {"attempt": 0}
    job["spec"]["training"] = {"learningRate": 1}
    refused = started("replace", "-f", "-", input=json.dumps(job), check=False)
    assert "training can't change once the job has started" in refused.stderr


@pytest.mark.parametrize(
    "args", [{"a": 2, "b": {"c": 2}}, {"a": 1}, {"a": 1, "b": {"c": 2}, "d": 1}, {"a": 1, "b": {}}]
)
def test_free_form_arguments_are_compared_too(args: dict[str, Any], started: Jobs) -> None:
    job = started.read()
    changed = copy.deepcopy(job)
    changed["spec"]["training"]["args"] = args
    refused = started("replace", "-f", "-", input=json.dumps(changed), check=False)
    assert "training can't change once the job has started" in refused.stderr
    started("replace", "-f", "-", input=json.dumps(job))


def test_the_names_that_the_api_server_makes_are_checked_too(jobs: Jobs) -> None:
    job = manifest(CORPUS["minimal"])
    job["metadata"] = {"generateName": "a" * 36}
    refused = jobs.create(job, check=False)
    assert "metadata.name must have at most 40 characters" in refused.stderr
    job["metadata"] = {"generateName": "a" * 35}
    assert "created" in jobs.create(job).stdout


def test_a_deployment_is_scaled_by_kubectl_and_tells_autoscalers_its_pods(jobs: Jobs) -> None:
    jobs.create(manifest(CORPUS["deployment-minimal"]))
    selector = "modelyard.dev/modeldeployment=md"
    status = {
        "observedGeneration": 1,
        "replicas": 3,
        "readyReplicas": 2,
        "selector": selector,
        "url": "http://md.x.svc",
    }
    said = {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "md"},
        "status": status,
    }
    jobs("apply", "--server-side", "--subresource=status", "-f", "-", input=json.dumps(said))
    jobs("scale", "md/md", "--replicas=4")
    scale = json.loads(jobs("get", "md", "md", "--subresource=scale", "--output=json").stdout)
    assert scale["spec"] == {"replicas": 4}
    assert scale["status"] == {"replicas": 3, "selector": selector}
    header, row = jobs("get", "md").stdout.splitlines()
    assert header.split() == ["NAME", "READY", "REPLICAS", "URL", "MODEL", "AGE"]
    assert row.split()[:3] == ["md", "2", "http://md.x.svc"]
    assert "<no description>" not in jobs("explain", "md.spec", "--recursive").stdout
