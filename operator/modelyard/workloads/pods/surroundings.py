"""Pods that failed for what is around our program: its image, its limits, the containers beside it."""

from __future__ import annotations

import re
from typing import Any

from modelyard.engine.plan import Manifest
from modelyard.workloads.pods import podstate, runtime
from modelyard.workloads.problem import Problem

# What a shell, the dynamic linker and runc say of a program that could not be run.
_EXIT_NEVER_RAN = frozenset({126, 127, 255})
# runc ends with 1 where the kernel does not take a program, and Python where it does not understand ours. The
# agent's first word comes within its first second, and whatever it fails of later it says.
_EXIT_FAILED = 1
_FIRST_WORD = 1.0
# The kubelet evicts for a limit of the pod's own, too; the next pod would write as much.
_OWN_LIMIT = re.compile(
    r"exceeds the total limit of containers|Usage of EmptyDir volume .* exceeds the limit"
    r"|Container (?P<name>\S+) exceeded its local ephemeral storage limit"
)


def find_problem(pod: Manifest) -> Problem | None:
    """What made this pod fail, if it wasn't our program; fatal where every other pod would fail of it, too."""
    return _find_limit(pod) or _find_unstarted(pod) or _find_silence(pod) or _find_other(pod)


def _find_limit(pod: Manifest) -> Problem | None:
    status: dict[str, Any] = pod.get("status") or {}
    message = str(status.get("message") or "").strip()
    over = _OWN_LIMIT.search(message)
    if status.get("reason") != "Evicted" or over is None:
        return None
    if over["name"] not in (None, podstate.main_container(pod)):
        return None
    name = pod["metadata"]["name"]
    return Problem(
        "StorageLimitExceeded",
        f"Pod {name} wrote more to its node than it may: {message[:400]} Raise the limit (ephemeral-storage, or"
        " memory for /dev/shm), or write below /modelyard/storage.",
        name,
        fatal=True,
    )


def _find_unstarted(pod: Manifest) -> Problem | None:
    ended, container, image = podstate.find_unstarted(pod)
    if not ended:
        return None
    name, sentence = pod["metadata"]["name"], str(ended.get("message") or "")
    text = runtime.explain(name, container, image, sentence)
    return Problem("ContainerCannotRun", text, name, fatal=runtime.is_hopeless(sentence))


def _find_silence(pod: Manifest) -> Problem | None:
    """Of a container that ended without a word, although the agent leaves one whatever happens."""
    end, seconds = podstate.terminated(pod), podstate.ran_for(pod)
    code, at_once = end.get("exitCode"), seconds is not None and seconds <= _FIRST_WORD
    if end.get("message") or not (code in _EXIT_NEVER_RAN or (code == _EXIT_FAILED and at_once)):
        return None
    name = pod["metadata"]["name"]
    return Problem(
        "ContainerCannotRun",
        f"Container {podstate.main_container(pod)} of pod {name} ended with exit code {code} before its first"
        " word, as it does where the image is made for another processor architecture than the node's, or where"
        f" its python3 is older than 3.8 or lacks one of its libraries: kubectl logs {name}.",
        name,
        fatal=True,
    )


def _find_other(pod: Manifest) -> Problem | None:
    """Of a container that isn't ours."""
    name, end = pod["metadata"]["name"], podstate.terminated(pod)
    failed_init = podstate.find_failed_init(pod)
    failed_beside = podstate.find_failed_other(pod) if end and not end.get("exitCode") else None
    if failed_init is not None:
        reason, what, (container, code, why) = "InitContainerFailed", "Init container", failed_init
    elif failed_beside is not None:
        reason, what, (container, code, why) = "ContainerFailed", "Container", failed_beside
    else:
        return None
    how = "used more than its memory limit" if why == "OOMKilled" else f"ended with exit code {code}"
    return Problem(
        reason,
        f"{what} {container} of pod {name} {how}, which fails the whole pod: kubectl logs {name} -c {container}.",
        name,
    )
