"""One variant after the other, each measured in a process of its own on the same rows."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from modelyard.contract import codes
from modelyard.contract.build import Method
from modelyard.contract.server import Runtime, ServerConfig
from modelyard_models.files import write_atomic

from modelyard_build.child import run_child
from modelyard_build.measuring.plan import Figures, Plan, Scored
from modelyard_build.rows import Rows
from modelyard_build.settings import Settings
from modelyard_build.tasks import TASKS, Answers

log = logging.getLogger("modelyard.build")

# In which the model as trained answers as many rows as it can; the others answer the same.
BASE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A variant that is to be measured. `folder` is below the storage root.

    `reference`: where its answers are left, unless it has some.
    """

    method: Method
    runtime: Runtime
    folder: str
    reference: Path | None


class Bench:
    """`temp` is a folder of the pod's own."""

    def __init__(self, settings: Settings, task: str, rows: Rows, temp: Path) -> None:
        self._settings, self._task, self._temp = settings, task, temp
        self._rows = temp / "rows.json"
        rows.write(self._rows)

    def measure(self, subject: Subject, count: int | None) -> tuple[Figures, Answers]:
        """Figures, and the answers to the first `count` rows; without it, to those that BASE_SECONDS suffice for.

        Raises Failure: why the variant can't be served.
        """
        begun = time.monotonic()
        config, plan, figures, answers = (
            self._temp / f"{subject.method}-{name}"
            for name in ("server.json", "plan.json", "figures.json", "answers.npz")
        )
        told = ServerConfig(
            name="build",
            task=self._task,
            folder=subject.folder,
            variant=subject.method,
            runtime=subject.runtime,
            **self._settings.config.dump_batching(),
        )
        write_atomic(config, told.model_dump_json(by_alias=True))
        written = Plan(
            begun=begun,
            rows=self._rows,
            answers=answers,
            reference=subject.reference,
            count=count,
            seconds=BASE_SECONDS if count is None else None,
        )
        write_atomic(plan, written.model_dump_json(by_alias=True))
        environment = {codes.ENV_SERVER_CONFIG: str(config), codes.ENV_STORAGE: str(self._settings.storage)}
        run_child("modelyard_build.measuring", plan, figures, environment)
        found = Figures.model_validate_json(figures.read_bytes())
        if TASKS[self._task].apart:
            scores = self._temp / f"{subject.method}-scores.json"
            run_child("modelyard_build.measuring.scoring", plan, scores, environment)
            found = found.model_copy(update={"rows": Scored.model_validate_json(scores.read_bytes()).rows})
        log.info("%s: measured in %.1f s: %s", subject.method, time.monotonic() - begun, found)
        with np.load(answers, allow_pickle=False) as file:
            return found, dict(file)
