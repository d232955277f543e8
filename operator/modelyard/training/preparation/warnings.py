"""What preparation found suspicious: taken over into the status, and told once."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.api import status
from modelyard.contract.report import DataWarning
from modelyard.training.draft import Draft


def bound(found: Sequence[DataWarning]) -> list[status.DataWarning]:
    """The warnings as the status can hold them."""
    return [
        status.DataWarning(reason=warning.reason, count=warning.count, message=warning.message)
        for warning in found
    ]


def tell(draft: Draft) -> None:
    """One event about the warnings of the data that has just become ready."""
    found = draft.status.data.warnings if draft.status.data else []
    if not found:
        return
    reasons = ", ".join(dict.fromkeys(warning.reason for warning in found))
    draft.emit(
        "Warning", "DataWarnings", f"The data is prepared, but look at status.data.warnings first: {reasons}."
    )
