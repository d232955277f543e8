"""The revisions as they are: a Deployment and a Service each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelyard.api.deploymentstatus import RevisionStatus
from modelyard.engine.plan import Manifest, Seen
from modelyard.serving import names
from modelyard.serving.children import servers
from modelyard.serving.revisions.rollout import Revision


@dataclass(frozen=True, slots=True)
class Observed:
    """A revision, and what only its objects tell."""

    revision: Revision
    deployment: Manifest
    digest: str
    variant: str | None
    concurrency: int | None
    task: str | None
    speaks: str | None

    @property
    def waits_since(self) -> str | None:
        """Since when its servers are awaited: it was made, or has been given some again after a suspension."""
        conditions = (self.deployment.get("status") or {}).get("conditions") or ()
        awaited = (c for c in conditions if c.get("type") == "Available" and c.get("status") == "False")
        return next((c["lastTransitionTime"] for c in awaited if c.get("lastTransitionTime")), self.created)

    @property
    def created(self) -> str | None:
        """When it was made."""
        created = self.deployment["metadata"].get("creationTimestamp")
        return str(created) if created else None


def find(seen: Seen, told: Sequence[RevisionStatus]) -> dict[str, Observed]:
    """All of them, by their ids. The weight of one whose Service is missing is the one that the status tells."""
    weights = {revision.name: revision.weight for revision in told}
    services = {
        _labels(service).get(names.REVISION_LABEL): _labels(service) for service in seen.of_kind("Service")
    }
    found = {}
    for deployment in seen.of_kind("Deployment"):
        labels = _labels(deployment)
        revision = labels.get(names.REVISION_LABEL)
        if revision is None or labels.get(names.COMPONENT_LABEL) != servers.COMPONENT:
            continue
        annotations = deployment["metadata"].get("annotations") or {}
        service = services.get(revision)
        weight = weights.get(deployment["metadata"]["name"], 0)
        if service is not None:
            weight = _number(service.get(names.WEIGHT_LABEL)) or 0
        found[revision] = Observed(
            Revision(
                revision,
                replicas=int((deployment.get("spec") or {}).get("replicas") or 0),
                ready=int((deployment.get("status") or {}).get("readyReplicas") or 0),
                weight=weight,
            ),
            deployment,
            digest=str(annotations.get(names.DIGEST_ANNOTATION, "")),
            variant=annotations.get(names.VARIANT_ANNOTATION),
            concurrency=_number(annotations.get(names.CONCURRENCY_LABEL)),
            task=annotations.get(names.TASK_LABEL),
            speaks=annotations.get(names.SPEAKS_LABEL),
        )
    return found


def find_pods(seen: Seen, revision: str) -> list[Manifest]:
    """The pods of one."""
    return [pod for pod in seen.of_kind("Pod") if _labels(pod).get(names.REVISION_LABEL) == revision]


def _labels(obj: Manifest) -> dict[str, Any]:
    return obj["metadata"].get("labels") or {}


def _number(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isdigit() else None
