"""Why a try at a build has left no package, and whether the next one may do better."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from modelyard.contract import codes
from modelyard.contract.build import BuildResult
from modelyard.engine.plan import Manifest
from modelyard.serving.children import builds
from modelyard.workloads.pods import podstate, surroundings
from modelyard.workloads.pods.ending import find_detail, has_failed, is_disrupted
from modelyard.workloads.problem import Problem
from modelyard.workloads.reasons import as_reason

# What the program ends with where it knows whether another try helps.
_SAID = (codes.EXIT_TEMPORARY, codes.EXIT_STOPPED, codes.EXIT_USER_ERROR)
_SIGNALLED = 128


@dataclass(frozen=True, slots=True)
class End:
    """`died`: the program ended of itself and of nothing that it had foreseen, as it may each time."""

    problem: Problem
    died: bool = False


def classify(job: Manifest, pods: list[Manifest], result: BuildResult | None) -> End:
    """How a Job ended. `result` is what the latest of its pods has told."""
    name = job["metadata"]["name"]
    # The latest says most: earlier ones were followed by another try.
    latest = sorted(pods, key=lambda p: str(p["metadata"].get("creationTimestamp") or ""), reverse=True)
    pod = next((pod for pod in latest if has_failed(pod) or not podstate.is_over(pod)), None)
    if result is not None and result.outcome == "succeeded":
        text = "has told of a package without all that servers need"
        return End(
            Problem(
                "InvalidBuildConfig",
                f"Job {name} {text}: the profile's serverImage is of another release than the operator.",
                fatal=True,
            )
        )
    if pod is None:
        return End(Problem("ResultLost", f"Job {name} has ended, but the word of its pod is lost."))
    around = surroundings.find_problem(pod)
    if around is not None:
        return End(around)
    pod_name, end = pod["metadata"]["name"], podstate.terminated(pod)
    if podstate.status_of(pod).get("reason") == "DeadlineExceeded":
        text = (
            f"Pod {pod_name} had not built the model after {builds.LONGEST // 3600} hours, and was stopped."
        )
        return End(
            Problem(
                "PodDeadlineExceeded",
                f"{text} kubectl logs {pod_name} says what it was at.",
                pod_name,
                fatal=True,
            )
        )
    if end.get("reason") == "OOMKilled":
        text = f"Pod {pod_name}, which builds the model, used more than its memory limit. Raise"
        return End(
            Problem("HostOutOfMemory", f"{text} spec.server.resources.limits.memory.", pod_name, fatal=True)
        )
    disrupted, code = is_disrupted(pod), end.get("exitCode")
    died = bool(end) and not disrupted and code not in _SAID
    told = result.failure if result else None
    if disrupted or told is None:
        text = f"Pod {pod_name}, which builds the model, {_say(end)}. {find_detail(pod)}".strip()
        return End(Problem("PodFailed", f"{text} See kubectl logs {pod_name}.", pod_name), died)
    fatal = code == codes.EXIT_USER_ERROR
    return End(Problem(as_reason(told.reason, "BuildFailed"), told.message, pod_name, fatal=fatal), died)


def _say(end: dict[str, Any]) -> str:
    code = int(end.get("exitCode") or 0)
    if not code:
        return "has ended"
    known = code - _SIGNALLED in {int(s) for s in signal.Signals}
    return f"ended with exit code {code}" + (f" ({signal.Signals(code - _SIGNALLED).name})" if known else "")
