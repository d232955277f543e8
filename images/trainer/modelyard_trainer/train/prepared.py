"""What the prepare stage has left in storage, as training takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.contract.layout import REPORT
from modelyard.contract.run import ModelInput
from modelyard_models.failure import Failure
from modelyard_models.files import read_json

from modelyard_trainer.context import Context
from modelyard_trainer.preflight.base import Base, describe_base, examine_base
from modelyard_trainer.preflight.head import Head, choose_head
from modelyard_trainer.tasks import Task, find_task
from modelyard_trainer.train.dataset import open_split
from modelyard_trainer.train.evaluation import Splits
from modelyard_trainer.train.modeling import load_config, load_model, load_padding_tokenizer
from modelyard_trainer.train.precision import Precision


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data and the base model of a run. `folder` is the model's; `head` is None for tasks without classes."""

    task: Task
    model: ModelInput
    folder: Path
    report: dict[str, Any]
    base: Base
    head: Head | None
    splits: Splits

    def load(self, precision: Precision) -> tuple[Any, Any]:
        """The tokenizer and the model to train. Raises Failure (ModelInvalid …)."""
        tokenizer = load_padding_tokenizer(self.folder)
        config = load_config(self.model, self.folder, self.task, tokenizer, self.head)
        new_head = self.head is not None and not self.head.kept
        return tokenizer, load_model(self.model, self.folder, self.task, config, precision, new_head=new_head)

    def describe_base(self) -> dict[str, Any]:
        """How the base model was taken, for modelyard.json."""
        return describe_base(self.base, self.head)


def open_prepared(ctx: Context) -> Prepared:
    """Opens what the pod was told of. Raises Failure: InvalidRunConfig, ModelInvalid, DatasetMissing (temporary)."""
    task, model = find_task(ctx.run.task), ctx.run.model
    if model is None or not ctx.dataset or not ctx.model:
        raise Failure("InvalidRunConfig", "the run config names no model, or the pod no prepared data")
    dataset, folder = ctx.storage / ctx.dataset, ctx.storage / ctx.model
    report = read_json(dataset / REPORT)
    if report is None:
        raise Failure(
            "DatasetMissing", f"{dataset / REPORT} is gone; check the job's storage", temporary=True
        )
    base = examine_base(model, folder, task)
    labels: list[str] = report.get("labels", [])
    head = choose_head(base.labels, labels) if task.labelled else None
    places = head.places(labels) if head else None
    splits = Splits(*(open_split(dataset, name, places) for name in ("train", "validation", "test")))
    return Prepared(task, model, folder, report, base, head, splits)
