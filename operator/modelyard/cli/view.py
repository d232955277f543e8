"""How a TrainingJob looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

Object = Mapping[str, Any]

BAR = 30
SHOWN_METRICS = ("loss", "eval_loss", "eval_accuracy", "eval_f1", "eval_perplexity", "learning_rate")
# The one says what the others say.
_REPEATED = ("Reconciling", "Stalled", "Succeeded", "Suspended")
# Of a job that works: they say no more than its phase does.
_EXPECTED = ("Progressing", "NotEvaluated", "Finished", "Preparing", "Starting", "Suspended", "NoCheckpoint")


def find_outcome(job: Object) -> bool | None:
    """True: succeeded; False: ended without success, or stuck for good; None: not at its end."""
    held = {c["type"]: c["status"] for c in _status(job).get("conditions") or []}
    if held.get("Succeeded") == "True":
        return True
    if held.get("Stalled") == "True" or held.get("Succeeded") == "False":
        return False
    return None


def format_job(job: Object, now: datetime) -> list[str]:
    """The whole view, a line each."""
    lines = [format_head(job)]
    progress = _status(job).get("progress")
    if progress:
        lines.append("  " + format_steps(progress, now, with_bar=True))
        metrics = format_metrics(progress.get("metrics") or {})
        if metrics:
            lines.append("  " + metrics)
    facts = (*_format_facts(job), *format_warnings(job), *format_conditions(job))
    return lines + [f"  {line}" for line in facts]


def format_line(job: Object, now: datetime) -> str:
    """All that changes, in one line; for logs."""
    pieces = [format_head(job)]
    progress = _status(job).get("progress")
    if progress:
        pieces += [format_steps(progress, now, with_bar=False), format_metrics(progress.get("metrics") or {})]
    pieces += format_conditions(job)
    return "  ".join(piece for piece in pieces if piece)


def format_head(job: Object) -> str:
    """Name, phase, attempt and pods."""
    status = _status(job)
    pieces = [str(job["metadata"]["name"]), str(status.get("phase") or "Pending")]
    if status.get("attempt", 0) > 1:
        pieces.append(f"attempt {status['attempt']}")
    nodes = status.get("nodes")
    if nodes:
        pieces.append(f"{nodes['ready']}/{nodes['desired']} pods")
    return "  ".join(pieces)


def format_steps(progress: Object, now: datetime, *, with_bar: bool) -> str:
    """Steps, speed and the time left."""
    step, total = int(progress["step"]), progress.get("maxSteps")
    pieces = [f"step {step}"]
    if total:
        percent = min(100, 100 * step // total)
        pieces = [f"step {step}/{total}", f"{percent}%"]
        if with_bar:
            filled = BAR * min(step, total) // total
            pieces.insert(0, "█" * filled + "░" * (BAR - filled))
    if progress.get("stepSeconds"):
        pieces.append(f"{progress['stepSeconds']:.2f} s/step")
    if progress.get("samplesPerSecond"):
        pieces.append(f"{progress['samplesPerSecond']:.1f} rows/s")
    end = progress.get("estimatedCompletionTime")
    if end and (not total or step < total):
        left = (datetime.fromisoformat(end) - now).total_seconds()
        pieces.append(f"{format_duration(max(0.0, left))} left")
    return "  ".join(pieces)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """The metrics that people look at first."""
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in SHOWN_METRICS if name in metrics)


def format_conditions(job: Object) -> list[str]:
    """Why it isn't going on: each condition that isn't true, with its words, each word once."""
    lines: list[str] = []
    said: set[str] = set()
    conditions = sorted(_status(job).get("conditions") or [], key=lambda c: c["type"] != "Ready")
    for condition in conditions:
        kind, reason, message = condition["type"], condition["reason"], str(condition.get("message", ""))
        if condition["status"] == "True" or kind in _REPEATED or reason in _EXPECTED or message in said:
            continue
        said.add(message)
        lines.append(f"{kind}: {reason}: {message}")
    return lines


def format_warnings(job: Object) -> list[str]:
    """What looked suspicious while the data was prepared, a line each."""
    found = (_status(job).get("data") or {}).get("warnings") or []
    return [f"warning: {_head(warning)}: {warning.get('message', '')}".rstrip(": ") for warning in found]


def _head(warning: Object) -> str:
    count = warning.get("count")
    return str(warning["reason"]) + (f" ({count})" if count is not None else "")


def format_end(job: Object) -> list[str]:
    """What a finished job has left behind."""
    status = _status(job)
    lines = []
    model = status.get("model")
    if model:
        lines.append(f"model  {model['uri']}")
        for title, key in (("trained", "evaluation"), ("before", "baseline")):
            for split, metrics in (model.get(key) or {}).items():
                text = "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
                if text:
                    lines.append(f"{title} ({split})  {text}")
    gate = status.get("gate")
    if gate:
        value = "no number" if gate.get("value") is None else f"{gate['value']:.4g}"
        lines.append(
            f"gate  {gate['metric']} {value}, bound {gate['threshold']:.4g}:"
            f" {'passed' if gate['passed'] else 'missed'}"
        )
    attempts = status.get("attempts") or []
    failure = attempts[-1].get("failure") if attempts else None
    if failure and failure.get("excerpt"):
        lines += [
            f"last words of pod {failure.get('pod')}:",
            *(f"  {line}" for line in failure["excerpt"].splitlines()),
        ]
    return lines


def format_duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _format_facts(job: Object) -> list[str]:
    status = _status(job)
    pieces = []
    data = status.get("data")
    if data:
        pieces.append(f"data: {data['rowsOut']} of {data['rowsIn']} rows")
    last = (status.get("checkpoints") or {}).get("last")
    if last:
        pieces.append(f"checkpoint: step {last['step']}")
    ratio = (status.get("goodput") or {}).get("ratio")
    if ratio is not None:
        pieces.append(f"goodput: {100 * ratio:.0f} %")
    cost = status.get("cost") or {}
    if cost.get("amount") is not None:
        forecast = cost.get("forecast")
        pieces.append(
            f"cost: {cost['amount']:.2f} {cost['currency']}"
            + (f" (at its end {forecast:.2f})" if forecast is not None else "")
        )
    counters = status.get("counters") or {}
    names = (
        ("userFailures", "failures"),
        ("infraFailures", "infrastructure failures"),
        ("preemptions", "preemptions"),
    )
    pieces += [f"{name}: {counters[key]}" for key, name in names if counters.get(key)]
    return ["  ".join(pieces)] if pieces else []


def _status(job: Object) -> Object:
    status: Object = job.get("status") or {}
    return status
