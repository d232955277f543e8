"""Tells the pod's agent how far training is. Nothing here waits for the agent, or for a GPU."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import Any

from modelyard_agent.client import Client
from transformers import TrainerCallback

from modelyard_trainer.tasks import Task

_EVERY_SECONDS = 0.5
_WINDOW = 20  # steps over which speed is measured
_LOGGED = ("loss", "learning_rate", "grad_norm")


class ProgressReporter(TrainerCallback):  # type: ignore[misc]
    """Reports steps, speed and metrics. One per node: the first process of each."""

    def __init__(self, client: Client, task: Task, batch_rows: int, mean_length: float) -> None:
        self._client = client
        self._task = task
        self._rows = batch_rows  # per step, over all processes
        self._tokens = batch_rows * mean_length
        self._state = "starting"
        self._last_step: float | None = None  # when the last step ended; None after a pause
        self._steps: deque[float] = deque(maxlen=_WINDOW)  # seconds each
        self._last_report = 0.0
        self._step_report = 0.0  # apart from the others: frequent saving must not keep steps untold

    def enter(self, state: str) -> None:
        """Changes the state and says so at once. The time until the next step is no step's time."""
        self._state, self._last_step = state, None
        self._report()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says where training begins."""
        if state.global_step:
            self._client.report(resumedFrom=state.global_step)
        self._report(step=state.global_step, maxSteps=state.max_steps)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Says that training goes on, where it had not been going on."""
        if self._state != "training":
            self.enter("training")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measures the step; reports twice a second at most."""
        now = time.monotonic()
        if self._last_step is not None:
            self._steps.append(now - self._last_step)
        self._last_step = now
        if now - self._step_report >= _EVERY_SECONDS or state.global_step >= state.max_steps:
            self._step_report = now
            self._report(step=state.global_step, maxSteps=state.max_steps, epoch=state.epoch, **self._speed())

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A sign of life during a long evaluation."""
        if time.monotonic() - self._last_report >= _EVERY_SECONDS:
            self._report()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Passes on what the Trainer logs; numbers it has on the CPU already."""
        metrics = {name: float(logs[name]) for name in _LOGGED if logs and name in logs}
        if metrics:
            self._client.report(metrics=metrics)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Passes on the metrics of an evaluation."""
        self._client.report(metrics=self._task.select_metrics(metrics or {}))

    def _speed(self) -> dict[str, float]:
        seconds = sum(self._steps)
        if not seconds:
            return {}
        steps = len(self._steps) / seconds
        return {"samplesPerSecond": steps * self._rows, "tokensPerSecond": steps * self._tokens}

    def _report(self, **fields: Any) -> None:
        self._last_report = time.monotonic()
        self._client.report(state=self._state, pid=os.getpid(), **fields)
