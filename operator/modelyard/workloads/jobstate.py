"""What a Job's status says."""

from __future__ import annotations

from modelyard.engine.plan import Manifest

END_CONDITIONS = ("Complete", "SuccessCriteriaMet", "Failed")


def has_condition(job: Manifest, *types: str) -> bool:
    """Whether one of these conditions is true."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c.get("type") in types and c.get("status") == "True" for c in conditions)


def condition_time(job: Manifest, *types: str) -> str | None:
    """When the first of these conditions became true."""
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") in types and condition.get("status") == "True":
            time = condition.get("lastTransitionTime")
            return str(time) if time else None
    return None


def is_complete(job: Manifest) -> bool:
    """All its pods succeeded."""
    return has_condition(job, "Complete", "SuccessCriteriaMet")


def is_failed(job: Manifest) -> bool:
    """One pod failed, and all have stopped."""
    return has_condition(job, "Failed")


def is_failing(job: Manifest) -> bool:
    """One pod failed; the others are being stopped."""
    return has_condition(job, "FailureTarget", "Failed")


def is_suspended(job: Manifest) -> bool:
    """Whether it is asked to hold."""
    return bool((job.get("spec") or {}).get("suspend"))


def count_desired(job: Manifest) -> int:
    """How many pods must succeed."""
    return int((job.get("spec") or {}).get("completions") or 1)


def count_active(job: Manifest) -> int:
    """Pods that run or are still stopping."""
    status = job.get("status") or {}
    return int(status.get("active") or 0) + int(status.get("terminating") or 0)
