"""Pods that are refused: the sentence of whoever refuses them, in the condition, with what to change."""

from __future__ import annotations

import pytest
from modelyard.engine.plan import Rejection
from modelyard.engine.probe import EventProbe

from tests.builders import TrainingJobBuilder
from tests.unit.training.simulation import Simulation

POD = 'Error creating: pods "x-abcde" is forbidden: '
# As the Job controller tells them: (its Event's message, reason, words of the remedy for a preparing pod).
CASES: dict[str, tuple[str, str, str]] = {
    "a quota": (
        POD
        + "exceeded quota: small, requested: limits.memory=4Gi, used: limits.memory=0, limited: limits.memory=1Gi",
        "QuotaExceeded",
        "spec.data.resources",
    ),
    "a quota that wants amounts named": (
        POD + "failed quota: small: must specify limits.cpu for: prepare",
        "QuotaExceeded",
        "wants these amounts to be set",
    ),
    "a limit range": (
        POD + "maximum memory usage per Container is 1Gi, but limit is 4Gi",
        "LimitExceeded",
        "LimitRange",
    ),
    "a limit range's ratio": (
        POD + "memory max limit to request ratio per Container is 1, but provided ratio is 4.000000",
        "LimitExceeded",
        "LimitRange",
    ),
    "a limit range whose default is below the request": (
        'Error creating: Pod "x-abcde" is invalid: spec.containers[0].resources.requests: Invalid value: "2":'
        " must be less than or equal to cpu limit of 500m",
        "LimitExceeded",
        "set limits, too, in spec.data.resources",
    ),
    "a quota that counts pods": (
        POD + "exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5",
        "QuotaExceeded",
        "Wait for other pods or jobs to end",
    ),
    "a quota of another priority": (
        POD + "insufficient quota to match these scopes: [{PriorityClass In [high]}]",
        "QuotaExceeded",
        "have the quota raised",
    ),
    "a priority class that is missing": (
        POD + "no PriorityClass with name urgent was found",
        "PriorityClassNotFound",
        "priorityClassName",
    ),
    "a service account that is missing": (
        POD + 'error looking up service account team/default: serviceaccount "default" not found',
        "ServiceAccountNotFound",
        "Create the ServiceAccount",
    ),
    "a runtime class that is missing": (
        POD + 'pod rejected: RuntimeClass "kata" not found',
        "RuntimeClassNotFound",
        "runtimeClassName",
    ),
    "the Pod Security level": (
        POD + 'violates PodSecurity "restricted:latest": privileged (container "mesh" must not set …)',
        "PodSecurityViolation",
        "mutating policy",
    ),
    "an admission policy": (
        POD + "ValidatingAdmissionPolicy 'owners' with binding 'owners' denied request: name a cost centre",
        "Forbidden",
        "exempted",
    ),
    "a webhook that says no": (
        'Error creating: admission webhook "v.example" denied the request: no pods on Fridays',
        "Forbidden",
        "exempted",
    ),
    "a webhook that does not answer": (
        'Error creating: Internal error occurred: failed calling webhook "m.example": failed to call webhook:'
        " connection refused",
        "WebhookUnavailable",
        "must answer again",
    ),
    "a namespace that is being deleted": (
        POD + "unable to create new content in namespace team because it is being terminated",
        "NamespaceTerminating",
        "being deleted",
    ),
    "a pod that a policy made invalid": (
        'Error creating: Pod "x-abcde" is invalid: spec.containers[1].image: Required value',
        "Invalid",
        "Correct what the message names",
    ),
    "something new": ("Error creating: the moon is full", "PodsNotCreated", "tries again"),
    "many times the same": (
        "(combined from similar events): " + POD + "exceeded quota: small, requested: pods=1",
        "QuotaExceeded",
        "exceeded quota: small",
    ),
}


def stage_of(stage: str) -> Simulation:
    simulation = Simulation(TrainingJobBuilder())
    simulation.settle()
    if stage == "prepare":
        return simulation
    simulation.prepare()
    if stage == "collect":
        name = "sentiment-train-1"
        simulation.run(name, 1).settle()
        simulation.put(simulation.pod(name).ended(0)).end(name, "Complete").settle()
    return simulation


def tell(simulation: Simulation, job: str, *messages: str, reason: str = "FailedCreate") -> None:
    uid = simulation.named(job)["metadata"]["uid"]
    simulation.facts[f"events-{uid}"] = {"events": [{"reason": reason, "message": m} for m in messages]}


@pytest.mark.parametrize("name", CASES)
def test_the_refusal_is_named_with_what_to_change(name: str) -> None:
    text, reason, words = CASES[name]
    simulation = stage_of("prepare")
    tell(simulation, "sentiment-prepare-1", text)
    simulation.settle()
    for kind in ("Ready", "DataReady", "PodsReady"):
        assert simulation.condition(kind) == ("False", reason)
    assert words in simulation.message()
    assert text.rsplit(": ", 1)[-1].rstrip(".") in simulation.message()
    assert "x-abcde" not in simulation.message() or "is invalid" in text, "another name with each try"
    assert simulation.events[-1] == reason
    simulation.run("sentiment-prepare-1", 1).settle()
    assert simulation.condition("Reconciling") == ("True", "Progressing")


@pytest.mark.parametrize(
    ("stage", "field"),
    [("prepare", "data.resources"), ("train", "resourcesPerNode"), ("collect", "data.resources")],
)
def test_of_every_job_it_is_named(stage: str, field: str) -> None:
    simulation = stage_of(stage)
    job = f"sentiment-{stage}-1"
    assert job in simulation.jobs()
    uid = simulation.named(job)["metadata"]["uid"]
    assert simulation.plan.probes == (EventProbe(f"events-{uid}", "team", "Job", uid, 3.0),)
    tell(simulation, job, CASES["a quota"][0])
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "QuotaExceeded")
    assert field in simulation.message()


def test_nothing_is_asked_once_the_pods_are_there() -> None:
    simulation = stage_of("train")
    assert len(simulation.plan.probes) == 1
    simulation.run("sentiment-train-1", 1).settle()
    assert not any(isinstance(probe, EventProbe) for probe in simulation.plan.probes)


def test_pods_that_are_missing_of_a_gang_are_asked_about() -> None:
    simulation = Simulation(TrainingJobBuilder().nodes(2)).prepare()
    simulation.run("sentiment-train-1", 1)
    tell(simulation, "sentiment-train-1", CASES["a quota"][0])
    simulation.settle()
    assert simulation.condition("PodsReady") == ("False", "QuotaExceeded")


def test_other_events_of_the_job_are_no_refusals() -> None:
    simulation = stage_of("prepare")
    tell(simulation, "sentiment-prepare-1", "something else", reason="TooManyActivePods")
    simulation.settle()
    assert simulation.condition("Ready") == ("False", "Progressing")


def test_a_preparation_without_pods_is_noticed_where_nobody_says_why() -> None:
    simulation = stage_of("prepare")
    simulation.advance(62).settle()
    assert simulation.condition("DataReady") == ("False", "PodsNotCreated")
    assert "kubectl describe job sentiment-prepare-1" in simulation.message()


@pytest.mark.parametrize("stage", ["prepare", "train", "collect"])
def test_a_job_that_others_hold_is_not_asked_about_but_named(stage: str) -> None:
    simulation = stage_of(stage)
    simulation.named(f"sentiment-{stage}-1")["spec"]["suspend"] = True
    simulation.settle()
    assert simulation.plan.probes == ()
    assert simulation.condition("Ready") == ("False", "JobSuspended")


def test_less_is_asked_for_after_a_suspension() -> None:
    simulation = stage_of("prepare")
    tell(simulation, "sentiment-prepare-1", CASES["a quota"][0])
    simulation.settle()
    simulation.job["spec"]["suspend"] = True
    simulation.settle()
    assert simulation.status["phase"] == "Suspended"
    simulation.job["spec"]["data"]["resources"] = {"limits": {"cpu": "1", "memory": "1Gi"}}
    simulation.job["spec"]["suspend"] = False
    simulation.settle()
    assert simulation.jobs() == ["sentiment-prepare-2"]
    pod = simulation.named("sentiment-prepare-2")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert simulation.condition("Stalled")[0] == "absent"
    assert not any("resources" in str(o.get("data")) for o in simulation.objects.values())


CLAIM, JOB = "PersistentVolumeClaim/sentiment-storage", "Job/sentiment-prepare-1"
# What the API server itself answers: (the child, its reason and message, the condition's reason, words of the remedy).
ANSWERS: dict[str, tuple[str, Rejection, str, str]] = {
    "storage beyond a quota": (
        CLAIM,
        Rejection(
            "QuotaExceeded",
            'persistentvolumeclaims "sentiment-storage" is forbidden: exceeded quota: team, requested:'
            " requests.storage=50Gi, used: requests.storage=0, limited: requests.storage=10Gi",
        ),
        "QuotaExceeded",
        "refused PersistentVolumeClaim/sentiment-storage: exceeded quota: team, requested:"
        " requests.storage=50Gi, used: requests.storage=0, limited:"
        " requests.storage=10Gi. Ask for less in spec.storage.claim.size, use a claim that exists",
    ),
    "a volume above a limit range": (
        CLAIM,
        Rejection(
            "Forbidden", "maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 50Gi"
        ),
        "LimitExceeded",
        "Bring spec.storage.claim.size within the namespace's LimitRange",
    ),
    "Jobs beyond a quota": (
        JOB,
        Rejection("QuotaExceeded", "exceeded quota: team, requested: count/jobs.batch=1, limited: 10"),
        "QuotaExceeded",
        "delete those that are not needed",
    ),
    "a policy on Jobs": (
        JOB,
        Rejection("Forbidden", "ValidatingAdmissionPolicy 'owners' denied request: name a cost centre"),
        "Forbidden",
        "Meet what the policy asks for",
    ),
    "an operator without the right": (
        JOB,
        Rejection(
            "Forbidden",
            'jobs.batch "sentiment-prepare-1" is forbidden: User "system:serviceaccount:modelyard:modelyard" cannot'
            ' patch resource "jobs" in API group "batch" in the namespace "team"',
        ),
        "Forbidden",
        "lacks the right: install the chart's roles anew",
    ),
    "a webhook that is down": (
        JOB,
        Rejection("WebhookUnavailable", 'Internal error occurred: failed calling webhook "mjob.kb.io": EOF'),
        "WebhookUnavailable",
        "must answer again",
    ),
    "a Job that is not allowed": (
        JOB,
        Rejection("Invalid", 'Job.batch "sentiment-prepare-1" is invalid: spec.template: Invalid value: ""'),
        "Invalid",
        "spec.trainer.podTemplate",
    ),
    "anything else": (JOB, Rejection("BadRequest", "no such field."), "BadRequest", "no such field."),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_api_server_itself_refuses_is_named_with_what_to_change(name: str) -> None:
    child, rejection, reason, words = ANSWERS[name]
    simulation = Simulation(TrainingJobBuilder())
    simulation.rejections[child] = rejection
    simulation.settle()
    assert simulation.condition("Ready") == ("False", reason)
    assert words in simulation.message()
    assert (simulation.condition("Stalled")[0] == "True") == (reason == "Invalid")
    assert any(c.id == child for c in simulation.plan.children), "still asked for"
    simulation.rejections.clear()
    simulation.settle()
    assert simulation.jobs() == ["sentiment-prepare-1"]
    assert simulation.condition("Reconciling") == ("True", "Progressing")
