"""The rules of kstatus, as every status that a test sees must keep them."""

from __future__ import annotations

import re
from typing import Any

MESSAGE_LIMIT = 1024
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


def conditions_of(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The conditions by type."""
    return {c["type"]: c for c in (resource.get("status") or {}).get("conditions", [])}


def compute_status(resource: dict[str, Any]) -> str:
    """What kstatus makes of the object: InProgress, Failed or Current (`cli-utils`, generic.go)."""
    status = resource.get("status") or {}
    if status.get("observedGeneration") != resource["metadata"].get("generation"):
        return "InProgress"
    held = conditions_of(resource)
    if held.get("Reconciling", {}).get("status") == "True":
        return "InProgress"
    if held.get("Stalled", {}).get("status") == "True":
        return "Failed"
    return "Current" if held.get("Ready", {}).get("status") == "True" else "InProgress"


def assert_kstatus(resource: dict[str, Any]) -> None:
    """Fails with the rule that the object's status breaks."""
    status, generation = resource["status"], resource["metadata"]["generation"]
    listed = [c["type"] for c in status["conditions"]]
    assert len(listed) == len(set(listed)), "conditions are a map by type"
    held = conditions_of(resource)
    assert "Ready" in held, "Ready is always there"
    assert status["observedGeneration"] <= generation, "observedGeneration is never ahead"
    for condition in held.values():
        kind = condition["type"]
        assert condition["observedGeneration"] == status["observedGeneration"], (
            f"{kind}: observedGeneration differs"
        )
        assert TIME.match(condition["lastTransitionTime"]), f"{kind}: lastTransitionTime is no time"
        assert len(condition["message"]) <= MESSAGE_LIMIT, f"{kind}: message too long"
        assert condition["message"], f"{kind}: says nothing"
        if "Stalled" not in held:  # a refusal may quote what the user wrote
            assert not re.search(r"\d\s?%", condition["message"]), f"{kind}: a percentage in a condition"
    ready = held["Ready"]
    # What serves goes on serving while it is changed, and where the change fails.
    serves = resource["kind"] == "ModelDeployment" and ready["status"] == "True"
    abnormal = [kind for kind in ("Reconciling", "Stalled") if kind in held]
    assert all(held[kind]["status"] == "True" for kind in abnormal), (
        "abnormal conditions are there only while true"
    )
    assert len(abnormal) <= 1, "never both Reconciling and Stalled"
    if status["observedGeneration"] < generation and not serves:
        assert ready["status"] != "True", "not Ready for a spec that was not looked at"
    if ready["status"] == "True" and not serves:
        assert not abnormal, "Ready has nothing abnormal"
    if ready["status"] == "Unknown":
        assert abnormal == ["Reconciling"], "Ready is Unknown only while Reconciling"
    if abnormal and not serves:
        assert ready["status"] != "True", "abnormal is not Ready"
        assert (ready["reason"], ready["message"]) == (
            held[abnormal[0]]["reason"],
            held[abnormal[0]]["message"],
        )
    suspended = held.get("Suspended", {}).get("status") == "True"
    if suspended:
        assert not abnormal, "a suspended job is settled"
        assert ready["status"] == "False"
        assert ready["reason"] == "Suspended"
    if not abnormal and ready["status"] != "True":
        assert suspended, "neither ready nor abnormal nor suspended"
    if held.get("Succeeded", {}).get("status") == "True":
        assert ready["status"] == "True"
