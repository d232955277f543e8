"""Why servers of a revision aren't ready: their own words, or the cluster's."""

from __future__ import annotations

from modelyard.contract import reading
from modelyard.contract.report import FailureReport
from modelyard.engine.plan import Manifest
from modelyard.serving.draft import Draft
from modelyard.serving.revisions.observed import Observed, find_pods
from modelyard.workloads import refusal
from modelyard.workloads.pods import podstate, runtime, startup
from modelyard.workloads.problem import Problem
from modelyard.workloads.reasons import as_reason


def find_problem(draft: Draft, observed: Observed) -> Problem | None:
    """The most telling reason; None where its servers are ready, or may yet become so."""
    if observed.revision.ready >= observed.revision.replicas:
        return None
    pods = [pod for pod in find_pods(draft.view.seen, observed.revision.id) if podstate.is_awaited(pod)]
    told = [problem for pod in pods if (problem := _find_end(pod)) is not None]
    return (
        next(iter(told), None)
        or startup.find_problem(draft, pods)
        or refusal.find_in_deployment(draft, observed.deployment)
    )


def _find_end(pod: Manifest) -> Problem | None:
    """How its server ended last."""
    end = podstate.last_end(pod)
    if not end:
        return None
    name = pod["metadata"]["name"]
    if end.get("reason") == "OOMKilled":
        return Problem(
            "HostOutOfMemory",
            f"The server in pod {name} used more than its memory limit. Raise spec.server.resources.limits.memory, or"
            " lower spec.server.maxLength or maxBatchTokens.",
            name,
        )
    if runtime.is_start_failure(end):
        image = podstate.image_of(pod)
        text = runtime.explain(name, podstate.main_container(pod), image, str(end.get("message") or ""))
        return Problem("ContainerCannotRun", text, name)
    report = reading.read(FailureReport, str(end.get("message") or ""))
    if report is not None:
        return Problem(
            as_reason(report.reason, "ServerFailed"), f"The server in pod {name} says: {report.message}", name
        )
    # A server that isn't ours leaves the end of its log here. It stays out: a status goes further than logs do (Events,
    # notifications, dashboards of GitOps), and a log's last line may hold a token or a password.
    return Problem(
        "ServerFailed",
        f"The server in pod {name} ended with exit code {end.get('exitCode')}: kubectl logs {name} --previous.",
        name,
    )
