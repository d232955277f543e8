"""The gateways: made first and kept whatever becomes of the model, so that callers find somebody who answers."""

from __future__ import annotations

from modelyard.api.conditions import ConditionType
from modelyard.api.profile import RoleName
from modelyard.engine.plan import Manifest
from modelyard.serving import names
from modelyard.serving.children import gateways
from modelyard.serving.children.site import Site
from modelyard.serving.draft import Draft
from modelyard.serving.gateways import reports
from modelyard.serving.gateways.config import build_config
from modelyard.workloads import refusal
from modelyard.workloads.pods import podstate, startup
from modelyard.workloads.problem import Problem

_READY = ConditionType.GATEWAY_READY
# Of GatewayReady: gateways answer, but not all of them as the spec asks for.
REPLACING = "Replacing"


def advance(draft: Draft, site: Site, role: RoleName) -> None:
    """Plans the gateways."""
    view = draft.view
    spec = view.spec
    draft.children += gateways.build(site, spec.gateway, spec.traffic, build_config(view), role)
    draft.update(url=f"http://{names.service(view.name)}.{view.namespace}.svc")
    judge(draft)


def judge(draft: Draft) -> None:
    """Says whether one of them answers."""
    deployment = _find(draft)
    problem = _find_problem(draft, deployment) if deployment is not None else None
    if deployment is not None and (deployment.get("status") or {}).get("readyReplicas"):
        if _is_new(deployment):
            draft.hold(_READY, "True", "Ready", "The gateways answer.")
        else:
            draft.hold(
                _READY, "True", REPLACING, "The gateways are replaced; some know nothing yet of a change."
            )
        # New ones that can't start leave the old ones, which know nothing of the change.
        draft.problem = problem
        return
    draft.miss(_READY, problem or Problem("Starting", "The gateways are starting."))


def _find(draft: Draft) -> Manifest | None:
    name = names.gateway(draft.view.name)
    found = draft.view.seen.of_kind("Deployment")
    return next((d for d in found if d["metadata"]["name"] == name), None)


def _find_problem(draft: Draft, deployment: Manifest) -> Problem | None:
    if _is_whole(deployment):
        return None
    labelled = (
        pod
        for pod in draft.view.seen.of_kind("Pod")
        if (pod["metadata"].get("labels") or {}).get(names.COMPONENT_LABEL) == gateways.COMPONENT
    )
    pods = [pod for pod in labelled if podstate.is_awaited(pod)]
    for pod in pods:
        end, name = podstate.last_end(pod), pod["metadata"]["name"]
        if end:
            return Problem(
                "GatewayFailed",
                f"The gateway in pod {name} ended with exit code {end.get('exitCode')}: kubectl logs {name}"
                " --previous.",
                name,
            )
    return (
        startup.find_problem(draft, pods)
        or refusal.find_in_deployment(draft, deployment)
        or _find_blind(draft, pods)
    )


def _find_blind(draft: Draft, pods: list[Manifest]) -> Problem | None:
    """Why one that runs isn't ready: it doesn't know which servers there are."""
    troubles = reports.read(draft.view.seen).troubles
    for pod in pods:
        name = pod["metadata"]["name"]
        if name in troubles:
            return Problem(
                "GatewayBlind", f"The gateway in pod {name} finds no servers: {troubles[name]}", name
            )
    return None


def _is_whole(deployment: Manifest) -> bool:
    """Whether all gateways are there as they are asked for, none of before among them."""
    status, size = deployment.get("status") or {}, deployment["spec"]["replicas"]
    return _is_new(deployment) and all(status.get(count) == size for count in ("replicas", "readyReplicas"))


def _is_new(deployment: Manifest) -> bool:
    """Whether no gateway of before a change is left. How many there are comes and goes with their pods."""
    status = deployment.get("status") or {}
    seen = status.get("observedGeneration") == deployment["metadata"].get("generation")
    return seen and bool(status.get("replicas") == status.get("updatedReplicas"))
