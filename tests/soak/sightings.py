"""What a crowd of jobs has made: seen while it was made, and compared at its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any
from urllib.parse import quote

from tests.bench.removal import LABEL, PAGE
from tests.bench.server import Server, Watch

NAMESPACED = "/api/v1/namespaces/default/"
KINDS = {
    "Job": "/apis/batch/v1/namespaces/default/jobs",
    "Pod": NAMESPACED + "pods",
    "Service": NAMESPACED + "services",
    "PersistentVolumeClaim": NAMESPACED + "persistentvolumeclaims",
}
Shape = dict[str, Any]


class Sightings(Watch):
    """Counts how often each child was made and how often it went."""

    def __init__(self, server: Server, path: str) -> None:
        super().__init__(server, path)
        self.made: Counter[str] = Counter()
        self.gone: Counter[str] = Counter()
        self.parents: set[str] = set()

    def see(self, event: str, metadata: dict[str, Any], now: float) -> bool:
        """Counts."""
        parent = metadata.get("labels", {}).get(LABEL)
        if parent is None or event not in ("ADDED", "DELETED"):
            return False
        (self.made if event == "ADDED" else self.gone)[metadata["name"]] += 1
        self.parents.add(parent)
        return True


async def list_all(server: Server, path: str, selector: str = "") -> list[dict[str, Any]]:
    """All objects of one kind, read in pages."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        url = f"{path}?limit={PAGE}" + (f"&labelSelector={quote(selector, safe='')}" if selector else "")
        page = await server.insist("GET", url + (f"&continue={quote(token)}" if token else ""))
        found += page["items"]
        token = page["metadata"].get("continue", "")
        if not token:
            return found


async def list_shapes(server: Server, jobs: str) -> dict[str, Shape]:
    """By TrainingJob: what it owns, whose that is, what its status says, and what Events told of it.

    Names lose what differs between two jobs in the same state: the job's name, and hashes of its identity.
    """
    shapes: dict[str, Shape] = {}
    uids: dict[str, str] = {}
    for job in await list_all(server, jobs):
        status = job.get("status", {})
        name = job["metadata"]["name"]
        uids[name] = job["metadata"]["uid"]
        shapes[name] = {
            "phase": status.get("phase"),
            "observed": status.get("observedGeneration") == job["metadata"]["generation"],
            "conditions": sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions", [])),
            "children": [],
            "strangers": [],
            "events": [],
        }
    owners: dict[str, str] = {}
    children: dict[str, list[str]] = defaultdict(list)
    for kind, path in KINDS.items():
        for child in await list_all(server, path, LABEL):
            metadata = child["metadata"]
            parent = metadata["labels"][LABEL]
            owners[metadata["uid"]] = parent
            owned_by = {owner["uid"] for owner in metadata.get("ownerReferences", [])}
            if parent not in uids or not owned_by & ({uids[parent]} | set(owners)):
                shapes.setdefault(parent, {"strangers": []})["strangers"].append(f"{kind}/{metadata['name']}")
            children[parent].append(f"{kind}/{_shorten(metadata['name'], parent, kind)}")
    for parent, names in children.items():
        shapes[parent]["children"] = sorted(names)
    for event in await list_all(server, NAMESPACED + "events"):
        about = event["involvedObject"]
        if about["kind"] == "TrainingJob" and about["name"] in shapes:
            shapes[about["name"]]["events"].append(event["reason"])
    for shape in shapes.values():
        shape.get("events", []).sort()
    return shapes


def _shorten(name: str, parent: str, kind: str) -> str:
    own = name.removeprefix(parent)
    # A pod's ends with random letters.
    return own.rsplit("-", 1)[0] if kind == "Pod" else own
