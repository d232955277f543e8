"""status.progress, status.checkpoints and status.model, from what the pods report."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

from modelyard.api.conditions import format_time
from modelyard.api.status import Checkpoints, CheckpointStatus, Evaluation, GateStatus, ModelStatus, Progress
from modelyard.api.trainingjob import Gate
from modelyard.contract import codes, reading
from modelyard.contract.report import Checkpoint, ProgressReport, TrainResult
from modelyard.engine.plan import Manifest, Seen
from modelyard.engine.probe import Probe
from modelyard.workloads import stages
from modelyard.workloads.labels import STAGE_LABEL
from modelyard.workloads.numbers import shorten
from modelyard.workloads.storage import STORAGE_VOLUME, Place

PATH = "/v1/progress"


def build_probe(attempt: int, pod: Manifest) -> Probe | None:
    """Rank 0's agent. The name tells attempts apart, so that no answer is taken for a later attempt's."""
    ip = (pod.get("status") or {}).get("podIP")
    if not ip:
        return None
    meta = pod["metadata"]
    return Probe(probe_name(attempt), meta["namespace"], meta["name"], ip, codes.AGENT_PORT, PATH)


def probe_name(attempt: int) -> str:
    """Name of rank 0's probe of an attempt."""
    return f"train-{attempt}"


def read_report(seen: Seen, attempt: int) -> ProgressReport | None:
    """The last answer of the attempt's rank 0."""
    fact = seen.facts.get(probe_name(attempt))
    if not fact:
        return None
    report = reading.read(ProgressReport, fact)
    return report if report is not None and report.attempt in (0, attempt) else None


def build_progress(report: ProgressReport, gate: Gate | None) -> Progress:
    """What users see, the gate's metric in any case.

    The end is reckoned from the report's own time, so that it holds still between two reports.
    """
    end = None
    if report.seconds_left is not None and report.updated and isfinite(report.seconds_left):
        end = unix_time(report.updated + report.seconds_left)
    return Progress(
        step=report.step,
        max_steps=report.max_steps,
        epoch=shorten(report.epoch, 4),
        percent=_percent(report.step, report.max_steps),
        step_seconds=shorten(report.step_seconds, 4),
        samples_per_second=shorten(report.samples_per_second, 4),
        tokens_per_second=shorten(report.tokens_per_second, 4),
        estimated_completion_time=end,
        metrics=sort_metrics(report.metrics, gate),
    )


def finish_progress(progress: Progress | None, result: TrainResult, gate: Gate | None) -> Progress:
    """The progress as it stands at the end."""
    before = progress.metrics if progress else {}
    return Progress(
        step=result.step,
        max_steps=result.max_steps or (progress.max_steps if progress else None),
        epoch=progress.epoch if progress else None,
        percent=_percent(result.step, result.max_steps),
        metrics=sort_metrics({**before, **result.metrics}, gate),
    )


def stand_still(progress: Progress | None) -> Progress | None:
    """The progress of an attempt that has ended: no speed and no end in sight."""
    if progress is None:
        return None
    lately = ("step_seconds", "samples_per_second", "tokens_per_second", "estimated_completion_time")
    return progress.changed(**dict.fromkeys(lately))


def build_checkpoints(
    place: Place, last: Checkpoint | None, best: Checkpoint | None, before: Checkpoints | None
) -> Checkpoints | None:
    """The newest and the best; what isn't reported stays as it was."""
    kept = before or Checkpoints()
    newest = build_checkpoint(place, last) if last else kept.last
    chosen = build_checkpoint(place, best) if best else kept.best
    return Checkpoints(last=newest, best=chosen) if newest or chosen else None


def build_checkpoint(place: Place, checkpoint: Checkpoint) -> CheckpointStatus:
    """Agents report verified checkpoints only."""
    return CheckpointStatus(
        step=checkpoint.step,
        uri=f"{place.uri}/{checkpoint.path}",
        time=unix_time(checkpoint.time),
        verified=True,
        world_size=checkpoint.world_size,
        save_seconds=checkpoint.save_seconds,
        metric=checkpoint.metric,
        value=checkpoint.value,
    )


def build_model(place: Place, result: TrainResult) -> ModelStatus | None:
    """The exported model and its metrics."""
    if result.model is None:
        return None
    uri = f"{place.uri}/{result.model.path}"
    return ModelStatus(
        uri=uri,
        digest=result.model.digest,
        card_uri=f"{uri}/README.md",
        evaluation=_evaluation(result.metrics, result.test_metrics),
        baseline=_evaluation(result.baseline, result.baseline_test),
    )


def build_gate(result: TrainResult, gate: Gate | None) -> GateStatus | None:
    """What the gate saw. A user's own program knows no gate; its metrics are judged here."""
    if result.gate is not None:
        seen = result.gate
        return GateStatus(metric=seen.metric, value=seen.value, threshold=seen.threshold, passed=seen.passed)
    if gate is None:
        return None
    value = result.metrics.get(gate.metric)
    value = value if value is not None and isfinite(value) else None
    threshold = gate.max if gate.max is not None else (gate.min or 0.0)
    passed = value is not None and (value <= threshold if gate.max is not None else value >= threshold)
    return GateStatus(metric=gate.metric, value=value, threshold=threshold, passed=passed)


def place_of(job: Manifest) -> Place:
    """Where a Job's pods keep everything. From the Job, since a profile may have changed since."""
    pod = job["spec"]["template"]["spec"]
    claim = next(
        v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if v["name"] == STORAGE_VOLUME
    )
    # Admission may have put containers of its own before ours.
    name = stages.find(job["metadata"]["labels"][STAGE_LABEL]).container
    mounts = next(c["volumeMounts"] for c in pod["containers"] if c["name"] == name)
    return Place(claim, next(m.get("subPath", "") for m in mounts if m["name"] == STORAGE_VOLUME))


def sort_metrics(metrics: dict[str, float], gate: Gate | None = None) -> dict[str, float]:
    """Finite ones in six digits, the well-known ones first: the status has no room for more than a few."""
    first = {*codes.FIRST_METRICS, gate.metric} if gate else {*codes.FIRST_METRICS}
    names = sorted(metrics, key=lambda name: (name not in first, name))
    found = ((name, shorten(metrics[name], 6)) for name in names)
    return {name: value for name, value in found if value is not None}


def unix_time(seconds: float) -> str | None:
    """Unix seconds as Kubernetes writes times; None where they are before 1970 or after the year 9999."""
    try:
        return format_time(datetime.fromtimestamp(seconds, UTC)) if seconds >= 0 else None
    except (OverflowError, ValueError, OSError):
        return None


def _evaluation(validation: dict[str, float], test: dict[str, float]) -> Evaluation | None:
    if not validation and not test:
        return None
    return Evaluation(validation=sort_metrics(validation), test=sort_metrics(test))


def _percent(step: int, max_steps: int | None) -> int | None:
    return 100 * step // max_steps if max_steps else None
