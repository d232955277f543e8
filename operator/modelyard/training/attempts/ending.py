"""Why an attempt ended, told from its pods. Causes decide, never counts of failed pods."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.api.status import Cause, Failure
from modelyard.contract import codes
from modelyard.contract.report import FailureReport, TrainResult
from modelyard.engine.plan import Manifest
from modelyard.workloads import stages
from modelyard.workloads.pods import podstate, surroundings
from modelyard.workloads.pods.ending import (
    find_detail,
    find_disruption,
    has_failed,
    is_disrupted,
    read_result,
)

_EXIT_SIGNALLED = 128
_EXIT_KILLED = 128 + 9
# Never cured by doing the same again.
FATAL_REASONS = frozenset({"HostOutOfMemory", "CUDAOutOfMemory"})
_CUDA_OOM = re.compile(
    r"CUDA out of memory|OutOfMemoryError: CUDA|HIP out of memory|CUBLAS_STATUS_ALLOC_FAILED"
)
# What a rank says when another one is gone: a consequence, not a cause.
_PEER_LOST = re.compile(
    r"PeerFailed|Connection reset by peer|Connection closed by peer|Broken"
    r" pipe|RendezvousConnectionError|RendezvousTimeoutError|"
    r"NCCL.*remote error|ncclRemoteError|ncclSystemError|Socket Timeout|DistNetworkError|DistStoreError"
)


@dataclass(frozen=True, slots=True)
class Ending:
    """`fatal` means that no retry can help."""

    cause: Cause
    failure: Failure | None = None
    fatal: bool = False


def read_results(pods: Sequence[Manifest]) -> dict[int, TrainResult]:
    """Results of train pods by node."""
    found = {podstate.index_of(pod): read_result(pod, TrainResult) for pod in pods}
    return {index: result for index, result in found.items() if result is not None}


def classify(pods: Sequence[Manifest], desired: int) -> Ending:
    """Of a train attempt without a finished result. `desired` is how many pods there should have been."""
    failed = sorted((pod for pod in pods if has_failed(pod)), key=_end_of)
    for pod in failed:
        if (ending := _classify_fatal(pod)) is not None:
            return ending
    stopped = [pod for pod in failed if _is_stopped(pod)]
    disrupted = [pod for pod in failed if is_disrupted(pod)]
    saved = any(r.outcome == codes.PREEMPTED for r in read_results(pods).values())
    foreign = {id(pod): ending for pod in failed if (ending := _classify_surroundings(pod)) is not None}
    own = [pod for pod in failed if id(pod) not in foreign]
    if foreign and not any(has_broken(p) and not _PEER_LOST.search(_text(p)) for p in own):
        return next(iter(foreign.values()))
    if disrupted:
        cause: Cause = "Preempted" if saved else "Infrastructure"
        return Ending(cause, _describe(disrupted[0], find_disruption(disrupted[0])))
    if not failed:
        return Ending(
            "Infrastructure", Failure(reason="PodsVanished", message="The pods are gone without a result.")
        )
    first = failed[0]
    if first not in stopped and _PEER_LOST.search(_text(first)):
        first = next(
            (pod for pod in failed if pod not in stopped and not _PEER_LOST.search(_text(pod))), first
        )
    if first in stopped:
        return Ending("Preempted", _describe(first, "Preempted"))
    if _is_killed(first):
        return Ending("Preempted" if saved else "Infrastructure", _describe(first, "Deleted"))
    exit_code = podstate.terminated(first).get("exitCode")
    missing = len({podstate.index_of(pod) for pod in pods}) < desired
    deleted = any("deletionTimestamp" in pod["metadata"] for pod in pods)
    if exit_code == codes.EXIT_TEMPORARY or ((missing or deleted) and _PEER_LOST.search(_text(first))):
        return Ending("Infrastructure", _describe(first, "TemporaryFailure"))
    if not podstate.terminated(first):
        return Ending("Infrastructure", _describe(first, "PodFailed"))
    return Ending("UserError", _describe(first, "UserCodeError"))


def classify_single(pod: Manifest, report: FailureReport | None) -> Ending:
    """Of a prepare pod that has failed."""
    exit_code = podstate.terminated(pod).get("exitCode")
    if podstate.terminated(pod).get("reason") == "OOMKilled":
        return Ending("UserError", _describe(pod, "HostOutOfMemory", report), fatal=True)
    if (ending := _classify_surroundings(pod)) is not None:
        return ending
    if is_disrupted(pod) or exit_code in (codes.EXIT_TEMPORARY, codes.EXIT_STOPPED) or exit_code is None:
        return Ending("Infrastructure", _describe(pod, find_disruption(pod), report))
    if report is None and exit_code > _EXIT_SIGNALLED:
        # The agent names what its processes die of; here it was killed itself.
        return Ending("Infrastructure", _describe(pod, "PodKilled"))
    return Ending("UserError", _describe(pod, "DataInvalid", report), fatal=True)


def _classify_fatal(pod: Manifest) -> Ending | None:
    end = podstate.terminated(pod)
    report = _report(pod)
    if end.get("reason") == "OOMKilled":
        return Ending("UserError", _describe(pod, "HostOutOfMemory"), fatal=True)
    if (report and report.reason == "CUDAOutOfMemory") or _CUDA_OOM.search(_text(pod)):
        return Ending("UserError", _describe(pod, "CUDAOutOfMemory"), fatal=True)
    if report and report.reason in FATAL_REASONS:
        return Ending("UserError", _describe(pod, report.reason), fatal=True)
    if end.get("exitCode") == codes.EXIT_USER_ERROR:
        return Ending("UserError", _describe(pod, "UserCodeError"), fatal=True)
    around = _classify_surroundings(pod)
    return around if around is not None and around.fatal else None


def _classify_surroundings(pod: Manifest) -> Ending | None:
    problem = surroundings.find_problem(pod)
    if problem is None:
        return None
    failure = _describe(pod, problem.reason).model_copy(update={"message": problem.message[:1024]})
    return Ending("UserError" if problem.fatal else "Infrastructure", failure, fatal=problem.fatal)


_ADVICE = {
    "HostOutOfMemory": (
        "Pod {pod} used more than its memory limit. Raise resourcesPerNode.limits.memory, or lower "
        "perDeviceTrainBatchSize or maxLength."
    ),
    "CUDAOutOfMemory": (
        "The GPU's memory was not enough. Lower perDeviceTrainBatchSize or maxLength, or raise "
        "deepspeed.zeroStage."
    ),
    "UserCodeError": "Pod {pod} ended with exit code {code}: kubectl logs {pod}.",
    "DataInvalid": "Preparing the data failed with exit code {code}: kubectl logs {pod}.",
    "PodKilled": "Pod {pod} was killed (exit code {code}) before it could say why: kubectl describe pod {pod}.",
    "ContainerStatusUnknown": "Pod {pod} was lost by its node, as when the node restarts.",
    "Preempted": "Pod {pod} was asked to stop.",
    "Deleted": "Pod {pod} was deleted, and killed before it could say how far it was.",
    "Evicted": "Pod {pod} was evicted from its node. {detail}",
    "PodFailed": "Pod {pod} failed before its container ran. {detail}",
    "TemporaryFailure": "Pod {pod} met a failure outside of the training code.",
}

_PREPARE_MEMORY = "Pod {pod} used more than its memory limit. Raise spec.data.resources.limits.memory."


def has_told(failure: Failure) -> bool:
    """Whether the program itself said what went wrong, so that two failures can be compared."""
    silence = _ADVICE["UserCodeError"].format(pod=failure.pod, code=failure.exit_code)
    return bool(failure.message) and failure.message != silence


def _describe(pod: Manifest, reason: str, report: FailureReport | None = None) -> Failure:
    end = podstate.terminated(pod)
    report = report or _report(pod)
    name = pod["metadata"]["name"]
    # An agent's own word is closer to the cause than an exit code; but it can't know that it was killed.
    if report and reason in ("UserCodeError", "DataInvalid", "TemporaryFailure"):
        reason = report.reason if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,126}", report.reason) else reason
    if reason == "HostOutOfMemory" and podstate.main_container(pod) != stages.find("train").container:
        template = _PREPARE_MEMORY
    else:
        template = _ADVICE.get(reason, "Pod {pod} stopped: {reason}. {detail}")
    advice = template.format(
        pod=name,
        code=end.get("exitCode"),
        reason=reason,
        detail=find_detail(pod),
    )
    message = report.message if report and report.message and reason not in FATAL_REASONS else advice.strip()
    return Failure(
        reason=reason,
        message=message,
        node=pod["spec"].get("nodeName"),
        pod=name,
        rank=report.rank if report else None,
        exit_code=report.exit_code if report and report.exit_code is not None else end.get("exitCode"),
        excerpt=report.excerpt[-2048:] if report and report.excerpt else None,
    )


def _report(pod: Manifest) -> FailureReport | None:
    result = read_result(pod, TrainResult)
    return result.failure if result else None


def _text(pod: Manifest) -> str:
    report = _report(pod)
    if report is None:
        return str(podstate.terminated(pod).get("message") or "")
    return f"{report.reason}\n{report.message}\n{report.excerpt or ''}"


def has_broken(pod: Manifest) -> bool:
    """Whether its main container ended by itself, and not well."""
    code = podstate.terminated(pod).get("exitCode")
    return code not in (None, codes.EXIT_OK, codes.EXIT_STOPPED, _EXIT_KILLED)


def _is_stopped(pod: Manifest) -> bool:
    result = read_result(pod, TrainResult)
    if result is not None:
        return result.outcome == codes.PREEMPTED
    return podstate.terminated(pod).get("exitCode") == codes.EXIT_STOPPED


def _is_killed(pod: Manifest) -> bool:
    """Whether it was deleted with less grace than it needed, and so ended without a word of its own."""
    killed = podstate.terminated(pod).get("exitCode") == _EXIT_KILLED
    return killed and "deletionTimestamp" in pod["metadata"] and read_result(pod, TrainResult) is None


def _end_of(pod: Manifest) -> tuple[str, bool, int]:
    # A pod without a container that ended (evicted before it ran) failed before the others noticed. Within one
    # second a failure comes before a stop: when a pod fails, its Job stops the others.
    return str(podstate.terminated(pod).get("finishedAt") or ""), _is_stopped(pod), podstate.index_of(pod)
