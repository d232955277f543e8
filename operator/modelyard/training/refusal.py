"""Why a Job's pods are not made: the sentence of whoever refused them, and what to change.

The Job's status doesn't say; its controller tells it in an Event. That is read only while a pod is missing, and
not before the time that making one takes.
"""

from __future__ import annotations

import re

from modelyard.engine.plan import EventProbe, Manifest
from modelyard.training import jobstate, names, podstate, waiting
from modelyard.training.draft import Draft
from modelyard.training.problem import Problem
from modelyard.training.view import seconds_since

# Seconds in which the Job controller makes a pod, unless thousands are asked for at once.
ASK_AFTER = 3.0
SENTENCE_LIMIT = 600

_LEAD = re.compile(
    r'^(\(combined from similar events\): )?(Error creating: )?(pods? "[^"]*" is forbidden: )?'
)
# The first that matches names the reason. {field} is where the stage's resources are set, {pods} where the rest.
_KINDS: tuple[tuple[str, str, str], ...] = (
    (
        r"exceeded quota",
        "QuotaExceeded",
        "Ask for less in {field} (suspend the job to change it), or have the quota raised.",
    ),
    (
        r"failed quota: .*must specify",
        "QuotaExceeded",
        "The quota wants these amounts to be set: do so in {field} (suspend the job to change it).",
    ),
    (
        r"(maximum|minimum) .*usage per (Pod|Container)|limit to request ratio",
        "LimitExceeded",
        "Bring {field} within the namespace's LimitRange (suspend the job to change it).",
    ),
    (
        r"no PriorityClass with name",
        "PriorityClassNotFound",
        "Create the PriorityClass, or correct priorityClassName in {pods}.",
    ),
    (
        r"error looking up service account|serviceaccount .* not found",
        "ServiceAccountNotFound",
        "Create the ServiceAccount in the job's namespace.",
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
        "The namespace is being deleted: create the job in another one.",
    ),
    (
        r"denied (the )?request|is forbidden",
        "Forbidden",
        "Meet what the policy asks for, or have these pods exempted from it.",
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
    if here or seconds_since(meta.get("creationTimestamp"), draft.view.now) <= waiting.STUCK_AFTER:
        return None
    return Problem(
        "PodsNotCreated", f"Job {meta['name']} has made no pods: kubectl describe job {meta['name']}."
    )


def explain(draft: Draft, job: Manifest, text: str) -> Problem:
    """The refusing sentence with its reason and a remedy."""
    sentence = _LEAD.sub("", text).strip()[:SENTENCE_LIMIT]
    stage = (job["metadata"].get("labels") or {}).get(names.STAGE_LABEL)
    if stage == "train":
        field, pods = "spec.trainer.resourcesPerNode", "spec.trainer.podTemplate.spec or the profile"
    else:
        own = draft.view.spec.data is not None
        field, pods = "spec.data.resources" if own else "the profile's prepareResources", "the profile"
    reason, advice = next(
        ((reason, advice) for pattern, reason, advice in _KINDS if re.search(pattern, text)),
        ("PodsNotCreated", "The Job's controller tries again by itself."),
    )
    name = job["metadata"]["name"]
    end = "" if sentence.endswith(".") else "."
    return Problem(
        reason,
        f"The pods of Job {name} are refused: {sentence}{end} {advice.format(field=field, pods=pods)}",
    )
