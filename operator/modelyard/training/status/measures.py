"""What is measured of each TrainingJob from its first pod to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.api.status import Counters, TrainingJobStatus
from modelyard.engine.measure import Family, Measure, Sample
from modelyard.engine.plan import Manifest
from modelyard.training.children.runconfig import DEFAULT_LOST_SECONDS
from modelyard.training.status import totals
from modelyard.training.view import read_status
from modelyard.workloads.labels import INHERITED_LABELS
from modelyard.workloads.times import parse_time

_PREFIX = "modelyard_trainingjob_"


def _family(name: str, text: str, *labels: str) -> Family:
    return Family(_PREFIX + name, text, labels)


FAMILIES = (
    _family("info", "1; who it belongs to and what it trains.", "project", "team", "profile", "task"),
    _family("phase", "1 for the phase that it is in.", "phase"),
    _family("condition", "1 where the condition is True, 0 where it is False.", "type"),
    _family("start_timestamp_seconds", "When its first pod was asked for."),
    _family("step", "Optimizer steps done."),
    _family("max_steps", "Optimizer steps to do."),
    _family("step_seconds", "Duration of a step, lately."),
    _family("samples_per_second", "Rows trained on per second over all processes, lately."),
    _family("tokens_per_second", "Tokens trained on per second over all processes, lately."),
    _family("estimated_completion_timestamp_seconds", "When training should end."),
    _family("metric", "Last value of a metric of the training.", "metric"),
    _family("attempt", "Index of the current or last attempt."),
    _family("attempt_start_timestamp_seconds", "When the current or last attempt's pods were asked for."),
    _family("interruptions", "What ended attempts or restarted processes, by cause.", "cause"),
    _family("lost_steps", "Steps that the latest attempts did and had not saved when they ended."),
    _family("pods", "Pods of the running attempt.", "state"),
    _family("rows", "Rows that preparation read and left.", "state"),
    _family(
        "data_warning", "What looks wrong in the data; rows, lines or columns where it counts any.", "reason"
    ),
    _family("checkpoint_step", "Step of the newest verified checkpoint."),
    _family("checkpoint_timestamp_seconds", "When the newest verified checkpoint was saved."),
    _family("checkpoint_max_lost_seconds", "How much training may be lost by checkpoint.every."),
    _family("state_seconds", "Where the time of its attempts went.", "state"),
    _family("goodput_ratio", "Productive part of that time, waiting in queues left out."),
    _family("resource_hours", "What its pods have set aside: hours of cores, GiB, devices.", "resource"),
    _family("cost", "What that costs by the profile's prices.", "currency"),
    _family("cost_forecast", "What it will have cost at its estimated end.", "currency"),
)


def is_live(job: Manifest) -> bool:
    """Whether pods have been asked for, and it is not over."""
    status = job.get("status") or {}
    return "startTime" in status and "completionTime" not in status


def read(job: Manifest) -> Iterator[Sample]:
    """Its samples; none where it is not live."""
    status = read_status(job.get("status") or {})
    if status.completion_time is not None or status.start_time is None:
        return
    spec = job.get("spec") or {}
    labels = job["metadata"].get("labels") or {}
    owners = tuple(str(labels.get(label, "")) for label in INHERITED_LABELS)
    yield _sample("info", 1.0, *owners, str(spec.get("profile", "default")), str(spec.get("task", "")))
    yield _sample("phase", 1.0, status.phase or "Pending")
    for condition in status.conditions:
        if condition.status != "Unknown":
            yield _sample("condition", float(condition.status == "True"), condition.type)
    yield _sample("start_timestamp_seconds", _seconds(status.start_time))
    yield from _read_progress(status)
    yield from _read_attempts(status)
    yield from _read_checkpoints(spec, status)
    yield from _read_data(status)
    yield from _read_goodput(status)
    yield from _read_cost(status)


def _read_progress(status: TrainingJobStatus) -> Iterator[Sample]:
    progress = status.progress
    if progress is None:
        return
    yield _sample("step", float(progress.step))
    for name in ("max_steps", "step_seconds", "samples_per_second", "tokens_per_second"):
        value = getattr(progress, name)
        if value is not None:
            yield _sample(name, float(value))
    if progress.estimated_completion_time is not None:
        yield _sample("estimated_completion_timestamp_seconds", _seconds(progress.estimated_completion_time))
    for name, value in progress.metrics.items():
        yield _sample("metric", value, name)


def _read_attempts(status: TrainingJobStatus) -> Iterator[Sample]:
    if status.attempt:
        yield _sample("attempt", float(status.attempt))
        yield _sample("lost_steps", float(sum(attempt.lost_steps or 0 for attempt in status.attempts)))
    if status.attempts and status.attempts[-1].start_time is not None:
        yield _sample("attempt_start_timestamp_seconds", _seconds(status.attempts[-1].start_time))
    # Also of none: what asks how often it has risen knows no value before a series' first.
    for name, value in (status.counters or Counters()).dump().items():
        yield _sample("interruptions", float(value), totals.CAUSES[name])
    if status.nodes is not None:
        yield _sample("pods", float(status.nodes.desired), "desired")
        yield _sample("pods", float(status.nodes.ready), "ready")


def _read_checkpoints(spec: Mapping[str, Any], status: TrainingJobStatus) -> Iterator[Sample]:
    last = status.checkpoints.last if status.checkpoints else None
    if last is not None:
        yield _sample("checkpoint_step", float(last.step))
        if last.time is not None:
            yield _sample("checkpoint_timestamp_seconds", _seconds(last.time))
    every = (spec.get("checkpoint") or {}).get("every") or {}
    steps, allowed = every.get("steps"), every.get("maxLostSeconds")
    if allowed is None and steps is None:
        allowed = DEFAULT_LOST_SECONDS
    speed = status.progress.step_seconds if status.progress else None
    if allowed is None and steps is not None and speed is not None:
        allowed = steps * speed
    if allowed is not None:
        yield _sample("checkpoint_max_lost_seconds", float(allowed))


def _read_data(status: TrainingJobStatus) -> Iterator[Sample]:
    data = status.data
    if data is None:
        return
    yield _sample("rows", float(data.rows_in), "in")
    yield _sample("rows", float(data.rows_out), "out")
    counts: dict[str, float] = {}
    for warning in data.warnings:
        counts[warning.reason] = counts.get(warning.reason, 0.0) + (
            1.0 if warning.count is None else warning.count
        )
    for reason, count in counts.items():
        yield _sample("data_warning", count, reason)


def _read_goodput(status: TrainingJobStatus) -> Iterator[Sample]:
    if status.goodput is None:
        return
    for state, seconds in status.goodput.seconds.items():
        yield _sample("state_seconds", seconds, state)
    if status.goodput.ratio is not None:
        yield _sample("goodput_ratio", status.goodput.ratio)


def _read_cost(status: TrainingJobStatus) -> Iterator[Sample]:
    cost = status.cost
    if cost is None:
        return
    for resource, hours in cost.hours.items():
        yield _sample("resource_hours", hours, resource)
    if cost.currency is not None:
        for name, value in (("cost", cost.amount), ("cost_forecast", cost.forecast)):
            if value is not None:
                yield _sample(name, value, cost.currency)


def _sample(name: str, value: float, *labels: str) -> Sample:
    return Sample(_PREFIX + name, value, labels)


def _seconds(time: str) -> float:
    return parse_time(time).timestamp()


MEASURE = Measure(FAMILIES, is_live, read, totals.FAMILIES, totals.count)
