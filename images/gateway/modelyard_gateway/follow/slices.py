"""What EndpointSlices say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from modelyard_gateway.balance.servers import Address, Target

DEPLOYMENT_LABEL = "modelyard.dev/modeldeployment"
REVISION_LABEL = "modelyard.dev/revision"
WEIGHT_LABEL = "modelyard.dev/weight"
CONCURRENCY_LABEL = "modelyard.dev/concurrency"
TASK_LABEL = "modelyard.dev/task"
SPEAKS_LABEL = "modelyard.dev/speaks"

_PORT = "http"  # the name of a Service's port; a slice with one port needs none


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice. endpoints: those that are ready, each with what names its pod."""

    revision: str
    weight: int
    concurrency: int
    endpoints: tuple[tuple[str, Address], ...]
    task: str
    speaks: str


def read(manifest: dict[str, Any]) -> Slice | None:
    """None for a slice that isn't of a revision, or can't be spoken to."""
    labels = manifest.get("metadata", {}).get("labels") or {}
    if REVISION_LABEL not in labels or manifest.get("addressType") == "FQDN":
        return None
    return Slice(
        revision=labels[REVISION_LABEL],
        weight=min(100, _number(labels.get(WEIGHT_LABEL))),
        concurrency=_number(labels.get(CONCURRENCY_LABEL)),
        endpoints=tuple(_read_endpoints(manifest)),
        task=labels.get(TASK_LABEL, ""),
        speaks=labels.get(SPEAKS_LABEL, ""),
    )


def merge(slices: Iterable[Slice]) -> dict[str, Target]:
    """The revisions. A Service with many servers, or of both kinds of addresses, has several slices.

    While the label of a revision's slices is changed, one after the other, the larger number holds.
    """
    parts: dict[str, list[Slice]] = {}
    for part in slices:
        parts.setdefault(part.revision, []).append(part)
    targets = {}
    for revision, found in parts.items():
        pods: dict[str, Address] = {}
        for part in found:
            for pod, address in part.endpoints:
                # A pod with addresses of both kinds is one server.
                pods[pod] = min(pods.get(pod, address), address, key=lambda a: (":" in a[0], a))
        targets[revision] = Target(
            weight=max(part.weight for part in found),
            concurrency=max(part.concurrency for part in found),
            addresses=frozenset(pods.values()),
            task=max(part.task for part in found),
            speaks=max(part.speaks for part in found),
        )
    return targets


def _read_endpoints(manifest: dict[str, Any]) -> Iterable[tuple[str, Address]]:
    ports = manifest.get("ports") or []
    named = [port for port in ports if port.get("name") == _PORT]
    port = next((p["port"] for p in (*named, *ports) if p.get("port")), None)
    if port is None:
        return
    for endpoint in manifest.get("endpoints") or []:
        # Kubernetes' API: an unknown state is to be taken for ready.
        if (endpoint.get("conditions") or {}).get("ready") is False or not endpoint.get("addresses"):
            continue
        host = endpoint["addresses"][0]
        yield (endpoint.get("targetRef") or {}).get("name") or host, (host, port)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
