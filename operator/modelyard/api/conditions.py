"""Conditions: their types, reasons, and how a new set replaces an old one (kstatus-compatible)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from modelyard.api.base import ApiModel

MESSAGE_LIMIT = 1024
# What Kubernetes takes for one (metav1.Condition).
REASON_PATTERN = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"


class ConditionType(StrEnum):
    """Types of all kinds. Reconciling and Stalled stand only while they are true."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    DATA_READY = "DataReady"
    PODS_READY = "PodsReady"
    PROGRESSING = "Progressing"
    CHECKPOINT_SAFE = "CheckpointSafe"
    GATE_PASSED = "GatePassed"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    MODEL_READY = "ModelReady"
    BUILT = "Built"
    SERVERS_READY = "ServersReady"
    GATEWAY_READY = "GatewayReady"
    UP_TO_DATE = "UpToDate"
    SCALING_READY = "ScalingReady"


class Condition(ApiModel):
    """metav1.Condition."""

    type: str = Field(max_length=316, description="Kind of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(max_length=1024, pattern=REASON_PATTERN, description="One word why.")
    message: str = Field("", max_length=32768, description="What happened and what to do.")
    last_transition_time: str | None = Field(
        None,
        max_length=64,
        json_schema_extra={"format": "date-time"},
        description="When status last changed.",
    )
    observed_generation: int | None = Field(None, description="Generation of the spec it speaks of.")


def format_time(moment: datetime) -> str:
    """RFC 3339 with whole seconds in UTC, as Kubernetes writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(
    old: Sequence[Mapping[str, Any]], new: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The new set, with `lastTransitionTime` kept where the status did not change, sorted by type."""
    before = {c["type"]: c for c in old}
    merged = []
    for condition in new:
        previous = before.get(condition.type, {})
        kept = previous.get("lastTransitionTime") if previous.get("status") == condition.status else None
        merged.append(
            condition.model_copy(
                update={
                    "message": condition.message[:MESSAGE_LIMIT],
                    "observed_generation": generation,
                    "last_transition_time": kept or format_time(now),
                }
            ).dump()
        )
    return sorted(merged, key=lambda c: str(c["type"]))
