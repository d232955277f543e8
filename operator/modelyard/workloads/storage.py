"""Where a resource keeps everything: a claim of the user's or the profile's, or one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelyard.api.profile import Profile
from modelyard.api.trainingjob import Claim, Storage
from modelyard.api.values import parse_uri
from modelyard.engine.kinds import controller_uid
from modelyard.engine.plan import Child
from modelyard.workloads.problem import Refused
from modelyard.workloads.view import View

# A claim may be mounted in several places, but only by one volume: the kubelet waits for ever for a second one.
STORAGE_VOLUME = "modelyard-storage"


@dataclass(frozen=True, slots=True)
class Place:
    """A claim, and the folder in it ("" is its root). `own` is set where the resource makes the claim."""

    claim: str
    folder: str
    own: Claim | None = None

    @property
    def uri(self) -> str:
        """The storage root as users write it."""
        return f"pvc://{self.claim}/{self.folder}".rstrip("/")


def find_place(own_claim: str, storage: Storage | None, profile: Profile | None) -> Place:
    """spec.storage, else the profile's claim, else a claim of the resource's own, of that name."""
    uri = storage.uri if storage else None
    own = storage.claim if storage else None
    if uri is None and own is None and profile is not None:
        uri = profile.storage.uri
    if uri is None:
        return Place(own_claim, "", own or Claim())
    location = parse_uri(uri, ("pvc",))
    return Place(location.name, location.path)


def build_claim(view: View, name: str, labels: dict[str, str], claim: Claim, profile: Profile) -> Child:
    """A claim of the resource's own. With `retain` it outlives its owner.

    One that was kept stays so, also where that is asked for no more: by an earlier resource of the name, or since. One
    that was made to go with its owner can't be turned. Raises Refused.
    """
    there = next(
        (c for c in view.seen.of_kind("PersistentVolumeClaim") if c["metadata"]["name"] == name), None
    )
    kept = there is not None and controller_uid(there) is None
    if claim.retain and there is not None and controller_uid(there) == view.uid:
        raise Refused(
            "InvalidSpec",
            f"spec.storage.claim.retain is true, but PersistentVolumeClaim {name} was made to go with its owner. To"
            f" keep it: kubectl patch pvc {name} --type json -p"
            """ '[{"op":"remove","path":"/metadata/ownerReferences"}]'. Else take retain out.""",
        )
    default = profile.storage
    spec: dict[str, Any] = {
        "accessModes": list(claim.access_modes or default.access_modes),
        "resources": {"requests": {"storage": claim.size or default.size}},
    }
    storage_class = claim.storage_class_name or default.storage_class_name
    if storage_class:
        spec["storageClassName"] = storage_class
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": view.namespace,
            "labels": labels,
        },
        "spec": spec,
    }
    return Child(manifest, immutable=True, detached=claim.retain or kept)
