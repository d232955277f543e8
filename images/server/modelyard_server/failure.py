"""Why a server can't serve its model, and where that is left for the operator."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from modelyard.contract.codes import TERMINATION_LIMIT
from modelyard_models.failure import Failure

log = logging.getLogger(__name__)

__all__ = ["Failure", "leave_reason"]


def leave_reason(failure: Failure, *places: Path) -> None:
    """Writes the failure as JSON (contract.report.FailureReport) to each of the files that can be written."""
    report = failure.report()
    while len(text := report.model_dump_json(by_alias=True, exclude_none=True).encode()) > TERMINATION_LIMIT:
        report = report.model_copy(update={"message": report.message[: len(report.message) // 2]})
    for place in places:
        with contextlib.suppress(OSError):
            place.write_bytes(text)  # in place: a termination log is a mount of its own, that takes no rename
