"""How a ModelDeployment looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelyard.cli import text
from modelyard.cli.kind import Look, Object

# Of a task's metrics the one that is looked at first, where the gate names none.
SHOWN_METRICS = ("accuracy", "perplexity", "loss")
# There can't be any yet; what is awaited stands beside it.
_EXPECTED = ("NoServers",)


def look(deployment: Object, now: datetime) -> Look:
    """The whole view."""
    del now  # nothing here tells the time
    head, why = format_head(deployment), text.explain(deployment, expected=_EXPECTED)
    variants, revisions = format_variants(deployment), format_revisions(deployment)
    wish, load = format_wish(deployment), format_load(deployment)
    # In a log one revision alone says no more than the head.
    told = [head, *(revisions if len(revisions) > 1 else ()), *wish, *why]
    return Look(
        head=head,
        body=[*variants, *revisions, *(["  ".join([*wish, *load])] if wish else []), *why],
        line="  ".join(told),
        mark=told,
        outcome=find_outcome(deployment),
        notes=variants,
    )


def find_outcome(deployment: Object) -> bool | None:
    """True: what the spec asks for serves; False: that is stuck for good; None: it is on its way."""
    if not text.is_current(deployment):
        return None
    true = text.find_true(deployment)
    if "Stalled" in true:
        return False
    # A change of the gateways' settings leaves UpToDate true while they are rolled.
    return True if {"Ready", "UpToDate"} <= true and "Reconciling" not in true else None


def format_head(deployment: Object) -> str:
    """Name, how it stands, servers, what serves, and where."""
    status = text.find_status(deployment)
    pieces = [str(deployment["metadata"]["name"]), *_find_words(deployment)]
    revisions = status.get("revisions") or []
    if revisions:
        pieces.append(f"{status.get('readyReplicas', 0)}/{status.get('replicas', 0)} replicas")
    variant = next((r.get("variant") for r in revisions if r["state"] == "Serving"), None)
    pieces += [str(piece) for piece in (variant, status.get("url")) if piece]
    return "  ".join(pieces)


def format_variants(deployment: Object) -> list[str]:
    """The build's table: each variant as it was measured, and what became of it. That of a build that failed comes
    before that of what serves.
    """
    status = text.find_status(deployment)
    tables = [table for key in ("build", "compression") if (table := status.get(key) or {}).get("variants")]
    if not tables:
        return []
    variants, chosen = tables[0]["variants"], tables[0].get("chosen")
    metric = _choose_metric(deployment, variants)
    titles = ("variant", "size", "load s", "p50 ms", "requests/s", "agreement", metric or "metric", "gate")
    return text.format_table(
        titles, [_format_variant(v, metric, chosen=v["name"] == chosen) for v in variants]
    )


def format_revisions(deployment: Object) -> list[str]:
    """Those that are there: the one that serves, one that starts, one that drains."""
    lines = []
    for revision in text.find_status(deployment).get("revisions") or []:
        if revision["state"] != "Retired":
            pieces = [
                f"revision {revision['name']}",
                revision["state"],
                f"{revision.get('weight', 0)} %",
                revision.get("reason"),
            ]
            lines.append("  ".join(piece for piece in pieces if piece))
    return lines


def format_wish(deployment: Object) -> list[str]:
    """How many servers the load asks for, and why."""
    scaling = text.find_status(deployment).get("scaling")
    if not scaling:
        return []
    reason = f" ({scaling['reason']})" if scaling.get("reason") else ""
    return [f"scaling: {scaling['desired']} desired{reason}"]


def format_load(deployment: Object) -> list[str]:
    """The requests that wait and run."""
    scaling = text.find_status(deployment).get("scaling") or {}
    names = (("queued", "queued"), ("inFlight", "in flight"))
    return [f"{scaling[key]:.1f} {word}" for key, word in names if scaling.get(key) is not None]


def _find_words(deployment: Object) -> list[str]:
    """One word how it stands; beside Ready a second one where a change is under way or stuck."""
    true = text.find_true(deployment)
    conditions = text.find_status(deployment).get("conditions") or []
    ready = next((c for c in conditions if c["type"] == "Ready"), None)
    if "Ready" in true:
        return ["Ready", *(kind for kind in ("Reconciling", "Stalled") if kind in true)]
    return [*(["Stalled"] if "Stalled" in true else []), str(ready["reason"]) if ready else "Pending"]


def _choose_metric(deployment: Object, variants: list[Mapping[str, Any]]) -> str | None:
    gate = ((deployment.get("spec") or {}).get("compression") or {}).get("gate") or {}
    measured = {name for variant in variants for name in variant.get("metrics") or {}}
    return next((name for name in (gate.get("metric"), *SHOWN_METRICS) if name in measured), None)


def _format_variant(variant: Mapping[str, Any], metric: str | None, *, chosen: bool) -> tuple[str, ...]:
    agreement, value = variant.get("agreement"), (variant.get("metrics") or {}).get(metric)
    if chosen:
        word = "chosen"
    elif variant.get("passed"):
        word = "passed"
    else:
        word = variant.get("reason") or "not measured"
    return (
        str(variant["name"]),
        text.format_bytes(variant["bytes"]),
        *(
            text.format_number(variant.get(key))
            for key in ("loadSeconds", "latencyMilliseconds", "requestsPerSecond")
        ),
        "-" if agreement is None else f"{agreement:.4f}",
        "-" if value is None else f"{value:.4f}",
        word,
    )
