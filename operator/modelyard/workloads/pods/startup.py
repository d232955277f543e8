"""Pods that don't get as far as running our container: what stands in the way, and whether waiting helps."""

from __future__ import annotations

import re
from collections.abc import Iterable

from modelyard.engine.plan import Manifest
from modelyard.engine.probe import EventProbe
from modelyard.workloads.draft import Draft
from modelyard.workloads.pods import delays, podstate
from modelyard.workloads.problem import Problem

# Seconds in which volumes are mounted and a sandbox is made; later the kubelet's Events are read.
ASK_AFTER = 10.0
# Pods of one Job are mostly held up by the same.
ASKED_PODS = 3
_VOLUME = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_SANDBOX = ("FailedCreatePodSandBox", "NetworkNotReady")
_MISSING = re.compile(r"(configmap|secret) \"?[^ ]+\"? not found|references non-existent (secret|config) key")


def find_problem(draft: Draft, pods: list[Manifest]) -> Problem | None:
    """The most telling reason why one of the pods doesn't run."""
    told = (_read_events(draft, pod) for pod in _choose(draft, pods))
    found = [problem for problem in told if problem is not None]
    seen = delays.find_problem(pods, draft.view.now)
    return found[0] if found and (seen is None or seen.reason in delays.VAGUE) else seen


def _choose(draft: Draft, pods: Iterable[Manifest]) -> list[Manifest]:
    return [pod for pod in pods if podstate.is_being_set_up(pod)][:ASKED_PODS]


def _read_events(draft: Draft, pod: Manifest) -> Problem | None:
    meta = pod["metadata"]
    uid = meta.get("uid")
    if uid is None:
        return None
    probe = EventProbe(f"events-{uid}", meta["namespace"], "Pod", uid, ASK_AFTER)
    draft.probes.append(probe)
    for event in (draft.view.seen.facts.get(probe.name) or {}).get("events") or []:
        reason, message = event.get("reason"), podstate.first_line(str(event.get("message") or ""))
        if reason in _VOLUME:
            cure = (
                "Create what is missing; the pod then starts by itself."
                if _MISSING.search(message)
                else "The kubelet tries again by itself."
            )
            return Problem(
                "VolumeMountFailed",
                f"The volumes of pod {meta['name']} can't be mounted: {message} {cure}",
                meta["name"],
            )
        if reason in _SANDBOX:
            node = pod["spec"].get("nodeName", "unknown")
            return Problem(
                "PodSandboxFailed",
                f"Node {node} can't set up pod {meta['name']}: {message} The kubelet tries again by itself; if"
                f" that does not help, look at the node's network and runtime: kubectl describe node {node}.",
                meta["name"],
            )
    return None
