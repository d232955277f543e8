"""What can't change once a job has started.

The API server refuses such changes, but for one that its rules don't see: a key renamed in a free-form object
(`training.args`). So the status keeps a digest of these fields, and no pods are made from others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from modelyard.api.transitions import FROZEN, NOT_FROZEN
from modelyard.training.view import View
from modelyard.workloads.problem import Refused


def digest_spec(spec: Mapping[str, Any]) -> str:
    """Of the fields as the user wrote them; numbers count by their value."""
    fields = {name: _plain(_frozen(name, spec[name])) for name in FROZEN if name in spec}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]


def check(view: View) -> None:
    """Raises Refused if the job was started with another spec."""
    started_with = view.status.spec_digest
    if started_with is None or started_with == digest_spec(view.resource.get("spec") or {}):
        return
    raise Refused(
        "InvalidSpec",
        f"One of {', '.join(FROZEN)} has changed since the job started, which would give another model. Put it"
        " back, or create a job with another name.",
    )


def _frozen(name: str, value: Any) -> Any:
    free = NOT_FROZEN.get(name, ())
    return {k: v for k, v in value.items() if k not in free} if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
