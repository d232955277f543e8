"""The claim of the job's own: whether it is there, and whether it will stay.

Claims of the user's or the profile's carry no label of ours, so no watch tells of them; the scheduler's words
on a pod that needs one do. Before a job succeeds they are read once.
"""

from __future__ import annotations

import re

from modelyard.api.status import Failure
from modelyard.engine.plan import Manifest
from modelyard.engine.probe import EventProbe, ObjectProbe
from modelyard.training import names
from modelyard.training.draft import Draft
from modelyard.training.view import View
from modelyard.workloads.pods import podstate, scheduling
from modelyard.workloads.problem import Problem

TERMINATING = "StorageTerminating"
LOST = "StorageLost"
# Seconds in which most volumes are made, or their provisioner has said why not.
ASK_AFTER = 5.0
SENTENCE_LIMIT = 600

# The attach/detach controller's words (Multi-Attach error for volume "pvc-…"), and the scheduler's of a volume that is
# bound to a node.
_UNSHARED = re.compile(rf"Multi-Attach error|{scheduling.VOLUME_ELSEWHERE}")
# Those, and the scheduler's of a claim that one pod alone may use.
_HELD = re.compile(r"Multi-Attach error|ReadWriteOncePod")
_NO_CLASS = re.compile(r'storageclass[^ ]* "([^"]+)" not found', re.IGNORECASE)


def find_own(view: View) -> Manifest | None:
    """The job's own claim, if it has one and it is there."""
    name = names.storage_claim(view.name)
    claims = view.seen.of_kind("PersistentVolumeClaim")
    return next((claim for claim in claims if claim["metadata"]["name"] == name), None)


def warn(draft: Draft, claim: str) -> None:
    """Says of a running stage's claim that what is written to it will not stay."""
    draft.warning = _find_threat(draft.view, claim)


def is_known(draft: Draft, claim: str) -> bool:
    """Whether a success can be told: the claim is the job's own, or an answer is there. Else it is asked for."""
    if claim == names.storage_claim(draft.view.name) or draft.view.seen.facts.get(_probe_name(claim)):
        return True
    draft.probes.append(ObjectProbe(_probe_name(claim), draft.view.namespace, "PersistentVolumeClaim", claim))
    return False


def find_loss(view: View, claim: str) -> Problem | None:
    """Why nothing that the job has written to its claim can be counted on any more."""
    threat = _find_threat(view, claim)
    if threat is None:
        return None
    return Problem(
        threat.reason,
        f"{threat.message} What was prepared and trained can't be counted on, so the job ends here: create it"
        " anew.",
    )


def find_used(draft: Draft) -> str | None:
    """Name of the job's own claim if something that counts was written to it."""
    name = names.storage_claim(draft.view.name)
    data, checkpoints = draft.status.data, draft.status.checkpoints
    uris = [
        data.report_uri if data else None,
        checkpoints.last.uri if checkpoints and checkpoints.last else None,
    ]
    return name if any(uri and uri.startswith(f"pvc://{name}/") for uri in uris) else None


def explain_delay(draft: Draft, name: str, pods: list[Manifest], problem: Problem | None) -> Problem | None:
    """Why pods wait for the job's own claim, in the words of whoever should bind it; else `problem` as it is.

    A claim's status only says Pending. Its Events are read while a pod waits for nothing else. Whosever the claim is,
    pods that can't have it because of a lost node, or not all because they are on several, are told so.
    """
    if problem is not None and _HELD.search(problem.message) and (lost := _find_lost(draft)) is not None:
        return _explain_held(name, lost, problem)
    if problem is not None and _UNSHARED.search(problem.message) and _are_apart(pods, problem):
        return _explain_unshared(name, problem)
    claim = find_own(draft.view) if name == names.storage_claim(draft.view.name) else None
    reason = problem.reason if problem else None
    waits = reason == "VolumePending" or (
        reason in (None, "Unschedulable") and any(_is_undecided(pod) for pod in pods)
    )
    if claim is None or not waits or not _is_pending(claim):
        return problem
    spec = claim.get("spec") or {}
    storage_class = spec.get("storageClassName")
    if not storage_class:
        return problem and Problem(
            "StorageClassNotFound",
            f"PersistentVolumeClaim {name} names no StorageClass, and the cluster has no default one. Mark one as"
            " the default, or create the job anew with storage.claim.storageClassName.",
            problem.pod,
        )
    meta = claim["metadata"]
    probe = EventProbe(
        f"events-{meta['uid']}", meta["namespace"], "PersistentVolumeClaim", meta["uid"], ASK_AFTER
    )
    draft.probes.append(probe)
    events = (draft.view.seen.facts.get(probe.name) or {}).get("events") or []
    for event in events:
        if event.get("reason") == "ProvisioningFailed":
            return _explain_provisioner(name, str(event.get("message") or ""))
    return problem and Problem(
        "VolumePending",
        f"PersistentVolumeClaim {name} is not bound yet: StorageClass {storage_class} has made no volume for it"
        f" (kubectl describe pvc {name}).",
        problem.pod,
    )


def _find_lost(draft: Draft) -> Failure | None:
    """How the last attempt ended, where that was with its node: its pod is still there, though no longer seen."""
    ended = [attempt.failure for attempt in draft.status.attempts if attempt.cause is not None]
    return ended[-1] if ended and ended[-1] is not None and ended[-1].reason == "NodeLost" else None


def _explain_held(name: str, lost: Failure, problem: Problem) -> Problem:
    return Problem(
        "VolumeHeld",
        f"PersistentVolumeClaim {name} is held by pod {lost.pod} of the last attempt, whose node {lost.node} was lost."
        f" It is free once that node is back or, if it is surely off, deleted: kubectl delete node {lost.node}."
        f" {problem.message}",
        problem.pod,
    )


def _are_apart(pods: list[Manifest], problem: Problem) -> bool:
    """Whether another pod is on a node that the problem's pod is not on."""
    nodes = {pod["metadata"]["name"]: (pod.get("spec") or {}).get("nodeName") for pod in pods}
    own = nodes.pop(problem.pod or "", None)
    return any(node is not None and node != own for node in nodes.values())


def _explain_unshared(name: str, problem: Problem) -> Problem:
    return Problem(
        "VolumeNotShared",
        f"PersistentVolumeClaim {name} can be used on one node at a time, and the training pods are on several. Use a"
        " claim with ReadWriteMany (storage.claim.accessModes, of a StorageClass that has it, or another storage.uri)"
        f" in a new job, or train on one node (trainer.numNodes: 1). {problem.message}",
        problem.pod,
    )


def _explain_provisioner(name: str, text: str) -> Problem:
    missing = _NO_CLASS.search(text)
    if missing:
        return Problem(
            "StorageClassNotFound",
            f"StorageClass {missing[1]} of PersistentVolumeClaim {name} does not exist. Create it, or create the"
            " job anew with another storage.claim.storageClassName (kubectl get storageclass lists them).",
        )
    sentence = " ".join(text.split())[:SENTENCE_LIMIT]
    return Problem(
        "ProvisioningFailed",
        f"No volume can be made for PersistentVolumeClaim {name}: {sentence.rstrip('.')}. It is tried again by"
        " itself; the StorageClass is the platform team's.",
    )


def _find_users_threat(view: View, name: str) -> Problem | None:
    answer = view.seen.facts.get(_probe_name(name)) or {}
    if answer.get("found") is False:
        return Problem(LOST, f"PersistentVolumeClaim {name} was deleted, with all that was in it.")
    if answer.get("ending"):
        return Problem(
            TERMINATING,
            f"PersistentVolumeClaim {name} is being deleted, and goes with the last pod that uses it.",
        )
    return None


def _probe_name(claim: str) -> str:
    return f"claim-{claim}"


def _is_undecided(pod: Manifest) -> bool:
    """Whether the scheduler has neither placed it nor said why not, as while it waits for a volume."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return not podstate.is_placed(pod) and all(c.get("type") != "PodScheduled" for c in conditions)


def _is_pending(claim: Manifest) -> bool:
    phase = (claim.get("status") or {}).get("phase")
    return phase == "Pending" and "deletionTimestamp" not in claim["metadata"]


def _find_threat(view: View, name: str) -> Problem | None:
    if name != names.storage_claim(view.name):
        return _find_users_threat(view, name)
    claim = find_own(view)
    if claim is None:
        return Problem(LOST, f"PersistentVolumeClaim {name} was deleted, with all that was in it.")
    if (claim.get("status") or {}).get("phase") == "Lost":
        return Problem(
            LOST, f"The volume of PersistentVolumeClaim {name} is gone: kubectl describe pvc {name}."
        )
    if "deletionTimestamp" not in claim["metadata"]:
        return None
    volume = (claim.get("spec") or {}).get("volumeName")
    rescue = ""
    if volume:
        patch = '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'
        rescue = f" To keep what is in it: kubectl patch pv {volume} -p '{patch}'."
    return Problem(
        TERMINATING,
        f"PersistentVolumeClaim {name} is being deleted, and goes with the last pod that uses it.{rescue}",
    )
