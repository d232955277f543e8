"""How a TrainingJob looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from modelyard.cli import text
from modelyard.cli.kind import Look, Object

BAR = 30
SHOWN_METRICS = ("loss", "eval_loss", "eval_accuracy", "eval_f1", "eval_perplexity", "learning_rate")
# The one says what the others say.
_REPEATED = ("Reconciling", "Stalled", "Succeeded", "Suspended")
# Of a job that works, or has: they say no more than its phase does.
_EXPECTED = (
    "Progressing",
    "Succeeded",
    "NotEvaluated",
    "Finished",
    "Preparing",
    "Starting",
    "Suspended",
    "NoCheckpoint",
)


def look(job: Object, now: datetime) -> Look:
    """The whole view."""
    head, why, warnings = format_head(job), format_conditions(job), format_warnings(job)
    progress, outcome = text.find_status(job).get("progress"), find_outcome(job)
    body, pieces = [], [head]
    if progress:
        metrics = format_metrics(progress.get("metrics") or {})
        body += [format_steps(progress, now, with_bar=True), metrics]
        pieces += [format_steps(progress, now, with_bar=False), metrics]
    body += [*_format_facts(job), *warnings, *why]
    return Look(
        head=head,
        body=[line for line in body if line],
        line="  ".join(piece for piece in (*pieces, *why) if piece),
        # Not the time that is left, which is another one at each look.
        mark=(head, why, progress),
        outcome=outcome,
        notes=warnings,
        end=[] if outcome is None else format_end(job),
    )


def find_outcome(job: Object) -> bool | None:
    """True: succeeded; False: ended without success, or stuck for good; None: not at its end."""
    held = {c["type"]: c["status"] for c in text.find_status(job).get("conditions") or []}
    if held.get("Succeeded") in ("True", "False"):
        return bool(held["Succeeded"] == "True")
    return False if held.get("Stalled") == "True" and text.is_current(job) else None


def format_head(job: Object) -> str:
    """Name, phase, attempt and pods."""
    status = text.find_status(job)
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
        pieces.append(f"{text.format_duration(max(0.0, left))} left")
    return "  ".join(pieces)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """The metrics that people look at first."""
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in SHOWN_METRICS if name in metrics)


def format_conditions(job: Object) -> list[str]:
    """Why it isn't going on."""
    return text.explain(job, silent=_REPEATED, expected=_EXPECTED)


def format_warnings(job: Object) -> list[str]:
    """What looked suspicious while the data was prepared, a line each."""
    found = (text.find_status(job).get("data") or {}).get("warnings") or []
    return [f"warning: {_head(warning)}: {warning.get('message', '')}".rstrip(": ") for warning in found]


def _head(warning: Object) -> str:
    count = warning.get("count")
    return str(warning["reason"]) + (f" ({count})" if count is not None else "")


def format_end(job: Object) -> list[str]:
    """What a finished job has left behind."""
    status = text.find_status(job)
    lines = []
    model = status.get("model")
    if model:
        lines.append(f"model  {model['uri']}")
        for title, key in (("trained", "evaluation"), ("before", "baseline")):
            for split, metrics in (model.get(key) or {}).items():
                figures = "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
                if figures:
                    lines.append(f"{title} ({split})  {figures}")
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


def _format_facts(job: Object) -> list[str]:
    status = text.find_status(job)
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
