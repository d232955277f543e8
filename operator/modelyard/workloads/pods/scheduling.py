"""Why the scheduler finds no node for a pod, in its own words, and what to change.

It counts the nodes by what each lacks: `0/5 nodes are available: 2 Insufficient cpu, 3 node(s) had untolerated
taint {gpu: true}. preemption: 0/5 nodes are available: …`.
"""

from __future__ import annotations

import re

from modelyard.workloads import stages
from modelyard.workloads.pods import podstate
from modelyard.workloads.problem import Problem

_MISSING = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_GOING = re.compile(r'persistentvolumeclaim "([^"]+)" is being deleted')
_UNBOUND = ("unbound", "being bound")
# The scheduler's words for a volume that is bound to another node, and what it said before.
VOLUME_ELSEWHERE = r"didn't match PersistentVolume's node affinity|volume node affinity conflict"
# All that apply are advised, in this order. {resources} and {pods} are the fields of the pod's stage.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (r"Insufficient ", "ask for less in {resources}, or add nodes that have as much"),
    (r"Too many pods", "add nodes, or wait for other pods to end"),
    (r"untolerated taint", "tolerate the taint (tolerations in {pods}), or add nodes without it"),
    (
        r"node affinity/selector|node selector",
        "correct nodeSelector or affinity in {pods}, or label the nodes",
    ),
    (
        r"pod (anti-)?affinity|topology spread",
        "relax podAffinity or topologySpreadConstraints in {pods}, or add nodes",
    ),
    (r"were unschedulable", "have the nodes uncordoned (kubectl get nodes)"),
    (r"free ports", "take hostPort out of {pods}"),
    (
        r"ReadWriteOncePod",
        "another pod holds a ReadWriteOncePod claim: pods on several nodes need one with ReadWriteMany",
    ),
    (
        VOLUME_ELSEWHERE,
        "its volume lies in another zone or on another node than those that have room: add nodes there",
    ),
    (r"max volume count", "add nodes: these can attach no more volumes"),
)


def explain(pod: str, stage: str, reason: str, message: str) -> Problem | None:
    """What a pod's PodScheduled condition of `reason` and `message` says; None where it says nothing yet."""
    if reason == "SchedulingGated":
        return Problem(
            "SchedulingGated",
            f"Pod {pod} is held by a scheduling gate, as queues and topology controllers set it; whoever set"
            f" it must take it away: kubectl get pod {pod} -o jsonpath={{.spec.schedulingGates}}.",
            pod,
        )
    if missing := _MISSING.search(message):
        return Problem(
            "ClaimNotFound",
            f"PersistentVolumeClaim {missing[1]!r} does not exist in this namespace. Create it, or correct the"
            " pvc:// URI; the pod then starts by itself.",
            pod,
        )
    if going := _GOING.search(message):
        return Problem(
            "StorageTerminating",
            f"Pod {pod} can't use PersistentVolumeClaim {going[1]}, which is being deleted: kubectl describe pvc"
            f" {going[1]}. Use another.",
            pod,
        )
    if any(word in message for word in _UNBOUND):
        return Problem(
            "VolumePending", f"Pod {pod} waits for a volume to be bound: {podstate.first_line(message)}", pod
        )
    if not message:
        return None
    said = podstate.first_line(message)
    return Problem("Unschedulable", f"No node can take pod {pod}: {said} {_advise(said, stage)}", pod)


def _advise(message: str, stage: str) -> str:
    # What preempting others would not change is the same again.
    nodes = message.partition(" preemption:")[0]
    fitting = [remedy for pattern, remedy in _REMEDIES if re.search(pattern, nodes)]
    text = "; ".join(fitting) or "see kubectl describe pod"
    text = text.format(resources=stages.find(stage).resources, pods=stages.find(stage).pods)
    return f"{text[0].upper()}{text[1:]}."
