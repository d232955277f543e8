"""Why a Job's pods, or an object of ours, are not made: the sentence of whoever refused them, and what to change.

Of pods the Job's status doesn't say it; its controller tells it in an Event. That is read only while a pod is
missing, and not before the time that making one takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from modelyard.engine.plan import Child, Manifest, Rejection
from modelyard.engine.probe import EventProbe
from modelyard.workloads import jobstate, stages
from modelyard.workloads.draft import Draft
from modelyard.workloads.labels import STAGE_LABEL
from modelyard.workloads.pods import delays, podstate
from modelyard.workloads.problem import Problem
from modelyard.workloads.times import seconds_since

# Seconds in which the Job controller makes a pod, unless thousands are asked for at once.
ASK_AFTER = 3.0
SENTENCE_LIMIT = 600
_COUNTED = "Wait for other pods or jobs to end, delete those that are not needed, or have the quota raised."

_LEAD = re.compile(
    r'^([A-Z]+ /\S+: )?(\(combined from similar events\): )?(Error creating: )?([a-z.]+ "[^"]*" is forbidden: )?'
)
# The first that matches names the reason. {field} is where the amounts are set, {pods} where the rest.
_KINDS: tuple[tuple[str, str, str], ...] = (
    (r"exceeded quota: .*requested: (pods|count/[\w./-]+)=\d+, used", "QuotaExceeded", _COUNTED),
    (
        r"exceeded quota|insufficient quota to match",
        "QuotaExceeded",
        "Ask for less in {field}, or have the quota raised.",
    ),
    (
        r"failed quota: .*must specify",
        "QuotaExceeded",
        "The quota wants these amounts to be set: do so in {field}.",
    ),
    (
        r"(maximum|minimum) .*usage per (Pod|Container|PersistentVolumeClaim)|limit to request ratio",
        "LimitExceeded",
        "Bring {field} within the namespace's LimitRange.",
    ),
    (
        r"no PriorityClass with name",
        "PriorityClassNotFound",
        "Create the PriorityClass, or correct priorityClassName in {pods}.",
    ),
    (
        r"error looking up service account|serviceaccount .* not found",
        "ServiceAccountNotFound",
        "Create the ServiceAccount in this namespace.",
    ),
    (
        r"rolebindings\.\S+ .*not found",  # the server means the role
        "RoleNotFound",
        "There is no role of that name to bind: install the chart's roles anew (helm upgrade), or create it.",
    ),
    (
        r"RuntimeClass .*not found",
        "RuntimeClassNotFound",
        "Create the RuntimeClass, or correct runtimeClassName in {pods}.",
    ),
    (
        r"violates PodSecurity",
        "PodSecurityViolation",
        "What the operator makes meets the restricted level: look at what a mutating policy or webhook adds.",
    ),
    (
        r"failed calling webhook|failed to call webhook",
        "WebhookUnavailable",
        "The webhook must answer again, or leave this namespace alone.",
    ),
    (
        r"being terminated",
        "NamespaceTerminating",
        "The namespace is being deleted: use another one.",
    ),
    (
        r'User "[^"]*" cannot ',
        "Forbidden",
        "That account lacks the right: install the chart's roles anew (helm upgrade), or grant it.",
    ),
    (
        r"denied (the )?request|is forbidden",
        "Forbidden",
        "Meet what the policy asks for, or have this resource exempted from it.",
    ),
    (
        r"must be less than or equal to (cpu|memory|ephemeral-storage) limit",
        "LimitExceeded",
        "Where no limit is set, the namespace's LimitRange sets one, which is below the request: set limits, too, in"
        " {field}.",
    ),
    (r"is invalid", "Invalid", "Correct what the message names in {pods}."),
)


def find(draft: Draft, job: Manifest, pods: list[Manifest]) -> Problem | None:
    """Why pods of this Job are missing, as far as it is known by now; None where none is, or not for long."""
    here = {podstate.index_of(pod) for pod in pods}
    if len(here) >= jobstate.count_desired(job):
        return None
    meta = job["metadata"]
    probe = EventProbe(f"events-{meta['uid']}", meta["namespace"], "Job", meta["uid"], ASK_AFTER)
    draft.probes.append(probe)
    events = (draft.view.seen.facts.get(probe.name) or {}).get("events") or []
    for event in events:
        if event.get("reason") == "FailedCreate":
            return explain(draft, job, str(event.get("message") or ""))
    if here or seconds_since(meta.get("creationTimestamp"), draft.view.now) <= delays.STUCK_AFTER:
        return None
    return Problem(
        "PodsNotCreated", f"Job {meta['name']} has made no pods: kubectl describe job {meta['name']}."
    )


def find_in_deployment(draft: Draft, deployment: Manifest) -> Problem | None:
    """Why pods of a Deployment are missing: its ReplicaSet's sentence is in its own status."""
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return explain(draft, deployment, str(condition.get("message") or ""))
    return None


def explain(draft: Draft, job: Manifest, text: str) -> Problem:
    """The refusing sentence with its reason and a remedy. `job` may be a Deployment, too."""
    stage = str((job["metadata"].get("labels") or {}).get(STAGE_LABEL))
    field, pods = draft.name_resources(stage), stages.find(stage).pods
    reason, advice = _find_kind(text) or ("PodsNotCreated", "The controller tries again by itself.")
    name = job["metadata"]["name"]
    return Problem(
        reason,
        f"The pods of {job['kind']} {name} are refused: {_quote(text)} {advice.format(field=field, pods=pods)}",
    )


def explain_rejection(
    child: Child, rejection: Rejection, fields: Mapping[str, tuple[str, str]], quotas: Mapping[str, str]
) -> Problem:
    """Of an object of ours that the API server has refused. It is asked again by itself.

    By kind: `fields` name, in words, those that set its amounts and the rest; `quotas` say what to do about a quota.
    """
    kind = child.manifest["kind"]
    reason, advice = _find_kind(rejection.message) or (rejection.reason, "")
    if reason == "NameTaken":
        # What lies in a claim is nothing to advise against.
        in_use = "If that is meant, name it as spec.storage.uri: pvc://{name}; else rename this resource."
        advice = in_use if kind == "PersistentVolumeClaim" else "Delete or rename it."
    if reason == "QuotaExceeded":
        advice = quotas.get(kind, _COUNTED)
    field, pods = fields.get(kind, ("the profile", "the profile"))
    text = f"The API server refused {child.id}: {_quote(rejection.message)}"
    return Problem(
        reason,
        f"{text} {advice.format(field=field, pods=pods, name=child.manifest['metadata']['name'])}".strip(),
    )


def _find_kind(text: str) -> tuple[str, str] | None:
    return next(((reason, advice) for pattern, reason, advice in _KINDS if re.search(pattern, text)), None)


def _quote(text: str) -> str:
    sentence = _LEAD.sub("", text).strip()[:SENTENCE_LIMIT]
    return sentence if sentence.endswith(".") else f"{sentence}."
