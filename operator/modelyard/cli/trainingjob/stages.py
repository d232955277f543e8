"""The stages of a TrainingJob that can be rendered."""

from __future__ import annotations

from datetime import UTC, datetime

from modelyard.api.profile import Settings
from modelyard.cli.kind import DIGEST, Stage
from modelyard.engine.plan import Manifest, Plan, Seen
from modelyard.training.plan import plan_job


def plan_prepare(job: Manifest, settings: Settings) -> Plan:
    """The first pass."""
    return plan_job(job, Seen(), datetime.now(UTC), settings)


def plan_train(job: Manifest, settings: Settings) -> Plan:
    """The pass after the data was prepared."""
    if (job.get("spec") or {}).get("data") is None:
        return plan_prepare(job, settings)
    data = {"digest": DIGEST, "modelDigest": DIGEST, "rowsIn": 0, "rowsOut": 0}
    return plan_prepare({**job, "status": {"prepareAttempt": 1, "data": data}}, settings)


STAGES = (Stage("prepare", plan_prepare), Stage("train", plan_train))
