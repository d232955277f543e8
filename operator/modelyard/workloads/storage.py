"""Where a resource keeps everything: a claim of the user's or the profile's, or one of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelyard.api.profile import Profile
from modelyard.api.trainingjob import Claim, Storage
from modelyard.api.values import parse_uri
from modelyard.engine.plan import Child

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


def build_claim(name: str, namespace: str, labels: dict[str, str], claim: Claim, profile: Profile) -> Child:
    """A claim of the resource's own. With `retain` it outlives its owner."""
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
            "namespace": namespace,
            "labels": labels,
        },
        "spec": spec,
    }
    return Child(manifest, immutable=True, detached=claim.retain)
