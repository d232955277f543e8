"""The claim of the job's own: whether it is there, and whether it will stay.

Claims of the user's or the profile's carry no label of ours, so no watch tells of them; the scheduler's words
on a pod that needs one do.
"""

from __future__ import annotations

from modelyard.engine.plan import Manifest
from modelyard.training import names
from modelyard.training.draft import Draft
from modelyard.training.problem import Problem
from modelyard.training.view import View

TERMINATING = "StorageTerminating"
LOST = "StorageLost"


def find_own(view: View) -> Manifest | None:
    """The job's own claim, if it has one and it is there."""
    name = names.storage_claim(view.name)
    claims = view.seen.of_kind("PersistentVolumeClaim")
    return next((claim for claim in claims if claim["metadata"]["name"] == name), None)


def warn(draft: Draft, claim: str) -> None:
    """Says of a running stage's claim that what is written to it will not stay."""
    draft.warning = _find_threat(draft.view, claim)


def find_loss(view: View, claim: str) -> Problem | None:
    """Why nothing that the job has written to its claim can be counted on any more."""
    threat = _find_threat(view, claim)
    if threat is None:
        return None
    return Problem(
        threat.reason,
        f"{threat.message} What was prepared and trained can't be counted on, so the job ends here: create it"
        " anew.",
    )


def find_used(draft: Draft) -> str | None:
    """Name of the job's own claim if something that counts was written to it."""
    name = names.storage_claim(draft.view.name)
    data, checkpoints = draft.status.data, draft.status.checkpoints
    uris = [
        data.report_uri if data else None,
        checkpoints.last.uri if checkpoints and checkpoints.last else None,
    ]
    return name if any(uri and uri.startswith(f"pvc://{name}/") for uri in uris) else None


def _find_threat(view: View, name: str) -> Problem | None:
    if name != names.storage_claim(view.name):
        return None
    claim = find_own(view)
    if claim is None:
        return Problem(LOST, f"PersistentVolumeClaim {name} was deleted, with all that was in it.")
    if (claim.get("status") or {}).get("phase") == "Lost":
        return Problem(
            LOST, f"The volume of PersistentVolumeClaim {name} is gone: kubectl describe pvc {name}."
        )
    if "deletionTimestamp" not in claim["metadata"]:
        return None
    volume = (claim.get("spec") or {}).get("volumeName")
    rescue = ""
    if volume:
        patch = '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'
        rescue = f" To keep what is in it: kubectl patch pv {volume} -p '{patch}'."
    return Problem(
        TERMINATING,
        f"PersistentVolumeClaim {name} is being deleted, and goes with the last pod that uses it.{rescue}",
    )
