"""Where a deployment keeps what it serves, and whose word that is."""

from __future__ import annotations

from modelyard.api.deploymentstatus import StorageChoice
from modelyard.api.durability import Claim, Storage
from modelyard.api.profile import Profile
from modelyard.serving import names
from modelyard.serving.source import Source
from modelyard.serving.view import View
from modelyard.workloads.storage import Place, find_place

_DEFAULTS = ("Profile", "Nobody")


def find(view: View, found: Source | None, profile: Profile) -> tuple[Place, StorageChoice]:
    """spec.storage, else the storage of the model's job, else the profile's, else a claim of the deployment's own.

    What the last two have chosen stays, whatever the profile says later: servers have it mounted.
    """
    storage, status, own = view.spec.storage, view.status, names.storage_claim(view.name)
    if storage.uri is not None or storage.claim is not None:
        return find_place(own, storage, profile), "Spec"
    if found is not None and found.storage is not None:
        return _return_to(own, found.storage), "Job"
    choice = status.storage_choice
    if status.storage is not None and choice is not None and (found is None or choice in _DEFAULTS):
        return _return_to(own, status.storage), choice
    place = find_place(own, storage, profile)
    return place, "Nobody" if place.own is not None else "Profile"


def _return_to(own: str, uri: str) -> Place:
    place = find_place(own, Storage(uri=uri), None)
    return Place(own, "", Claim()) if place == Place(own, "") else place
