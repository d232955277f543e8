"""What is known of the training, merged from reports: the answer of /v1/progress and of /metrics."""

import math
import threading
import time
from typing import Any, Callable, Dict, Optional

from modelyard.contract import codes

from modelyard_agent.checkpoints import is_finite_number
from modelyard_agent.metrics import Metrics
from modelyard_agent.pace import Pace
from modelyard_agent.timesheet import STARTING, TRAINING, Timesheet

STATES = ("starting", "training", "evaluating", "saving", "exporting", "done")
_WHOLE = ("step", "maxSteps", "resumedFrom")
_REAL = ("epoch", "stepSeconds", "samplesPerSecond", "tokensPerSecond")


class Progress:
    """Thread-safe. Reports are partial ProgressReports: absent fields keep their values, metrics merge.

    A report may say `pid`, the reporting process: a new one starts the pace anew.
    """

    def __init__(
        self,
        attempt: int,
        clock: Callable[[], float] = time.monotonic,
        reached: int = 0,
        gate_metric: Optional[str] = None,
    ):
        """`reached`: the highest step that earlier attempts did. The metric of the gate is kept in any case."""
        self._attempt = attempt
        self._clock = clock
        self._lock = threading.Lock()
        self._pace = Pace()
        self._timesheet = Timesheet(reached, clock)
        self._pid: Optional[int] = None
        self._state = STATES[0]
        self._fields: Dict[str, Any] = {"step": 0}
        self._metrics = Metrics(gate_metric)
        self._checkpoints: Dict[str, Any] = {}
        self._restarts = 0
        self._complete = False
        self._updated = 0.0

    def merge(self, report: Dict[str, Any]) -> None:
        """Take a report in. Values of the wrong type are left out: one bad field must not cost the others."""
        with self._lock:
            fields = _known_fields(report)
            if report.get("state") in STATES:
                self._state = report["state"]
            elif self._state == STARTING and fields.get("step"):
                self._state = TRAINING  # a program that tells of steps only
            self._fields.update(fields)
            self._timesheet.note(self._state, fields.get("step"))
            self._complete = self._complete or report.get("complete") is True
            metrics = report.get("metrics")
            if isinstance(metrics, dict):
                self._metrics.update(metrics)
            pid = report.get("pid")
            if isinstance(pid, int) and pid != self._pid:
                self._pid = pid
                self._pace.reset()
            if "step" in report:
                self._pace.add(self._clock(), self._fields["step"])
            self._updated = time.time()

    def set_checkpoints(self, last: Optional[Dict[str, Any]], best: Optional[Dict[str, Any]]) -> None:
        """The newest verified checkpoint and the best of them by the gate's metric."""
        with self._lock:
            self._checkpoints = {"lastCheckpoint": last, "bestCheckpoint": best}

    def set_restarts(self, count: int) -> None:
        """How often the processes were started again in place; it never falls."""
        with self._lock:
            if count > self._restarts:
                self._restarts = count
                self._timesheet.restart()

    @property
    def reported(self) -> bool:
        """True once the training process has told anything."""
        with self._lock:
            return self._updated > 0

    def finish(self, well: bool) -> None:
        """The training process has ended; if well, and it said it was complete, then at the last step."""
        with self._lock:
            self._state = STATES[-1]
            self._timesheet.note(self._state)
            if well and self._complete:
                self._fields["step"] = self._fields.get("maxSteps", self._fields["step"])

    def snapshot(self) -> Dict[str, Any]:
        """A ProgressReport as JSON. Numbers that JSON doesn't have (NaN) are left out."""
        with self._lock:
            report: Dict[str, Any] = {"contractVersion": codes.CONTRACT_VERSION, "attempt": self._attempt}
            report.update(state=self._state, processRestarts=self._restarts, updated=self._updated)
            report.update(self._fields)
            if self._updated:  # of a program that tells nothing nobody knows what it does
                report["seconds"] = {
                    state: round(spent, 3) for state, spent in self._timesheet.read().items()
                }
            report["metrics"] = self._metrics.told()
            report.update({key: value for key, value in self._checkpoints.items() if value is not None})
            seconds = self._pace.step_seconds
            if seconds is not None:
                report.setdefault("stepSeconds", seconds)
            report.update(_estimate(report, seconds))
            return report

    def render(self) -> str:
        """The same in Prometheus' text format; NaN included."""
        report = self.snapshot()
        with self._lock:
            metrics = self._metrics.all()
        lines = []
        for name, key, kind, text in _SERIES:
            if key in report:
                lines += _series(name, kind, text, [("", report[key])])
        spent = [
            ('{{state="{}"}}'.format(state), seconds) for state, seconds in report.get("seconds", {}).items()
        ]
        lines += _series("modelyard_training_state_seconds_total", "counter", "Time by state.", spent)
        checkpoints = [
            ('{{kind="{}"}}'.format(kind), report[key]["step"])
            for kind, key in (("last", "lastCheckpoint"), ("best", "bestCheckpoint"))
            if key in report
        ]
        lines += _series(
            "modelyard_training_checkpoint_step", "gauge", "Step of a verified checkpoint.", checkpoints
        )
        labelled = [('{{name="{}"}}'.format(_escape(name)), value) for name, value in sorted(metrics.items())]
        lines += _series(
            "modelyard_training_metric", "gauge", "A metric as the training last logged it.", labelled
        )
        return "\n".join(lines) + "\n"


_SERIES = (
    ("modelyard_training_step", "step", "gauge", "Optimizer steps done."),
    ("modelyard_training_max_steps", "maxSteps", "gauge", "Optimizer steps to do."),
    ("modelyard_training_epoch", "epoch", "gauge", "Passes over the training data."),
    ("modelyard_training_step_seconds", "stepSeconds", "gauge", "Duration of a step."),
    ("modelyard_training_samples_per_second", "samplesPerSecond", "gauge", "Samples trained on per second."),
    ("modelyard_training_tokens_per_second", "tokensPerSecond", "gauge", "Tokens trained on per second."),
    ("modelyard_training_seconds_left", "secondsLeft", "gauge", "Estimated time to the last step."),
    (
        "modelyard_training_process_restarts_total",
        "processRestarts",
        "counter",
        "Restarts of processes in place.",
    ),
    ("modelyard_training_attempt", "attempt", "gauge", "Index of the attempt."),
    ("modelyard_training_last_report_timestamp_seconds", "updated", "gauge", "Time of the last report."),
)


def _series(name: str, kind: str, text: str, samples: Any) -> Any:
    if not samples:
        return []
    lines = ["# HELP {} {}".format(name, text), "# TYPE {} {}".format(name, kind)]
    return lines + ["{}{} {}".format(name, labels, _number_text(value)) for labels, value in samples]


def _number_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _known_fields(report: Dict[str, Any]) -> Dict[str, Any]:
    fields: Dict[str, Any] = {}
    for key in _WHOLE:
        if is_finite_number(report.get(key)) and report[key] >= 0:
            fields[key] = int(report[key])
    for key in _REAL:
        if is_finite_number(report.get(key)):
            fields[key] = float(report[key])
    return fields


def _estimate(report: Dict[str, Any], window_seconds: Optional[float]) -> Dict[str, float]:
    step_seconds = window_seconds if window_seconds is not None else report.get("stepSeconds")
    if step_seconds is None or "maxSteps" not in report:
        return {}
    seconds = step_seconds * max(0, report["maxSteps"] - report["step"])
    return {"secondsLeft": seconds} if math.isfinite(seconds) else {}
