"""A variant: what it is made of, and how it is served."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

from modelyard.contract.base import ContractModel
from modelyard.contract.build import Method
from modelyard.contract.layout import MODEL_REFERENCE
from modelyard.contract.server import Runtime, ServerConfig
from modelyard_agent.resources import count_threads
from modelyard_models.fetch import FILES
from modelyard_models.files import walk_files
from modelyard_server.package.folder import Package, open_package
from modelyard_server.runtimes.pytorch import load_model

from modelyard_build.tasks import TASKS

_WEIGHTS = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".onnx",
    ".h5",
    ".msgpack",
    ".pt",
    ".pth",
    ".gguf",
)


class Plan(ContractModel):
    """What a process that makes one is told. `folder` is the model's; a variant is written to `target`."""

    method: Method
    task: str
    folder: Path
    target: Path


class Variant(ABC):
    """One method, and the runtime that serves it."""

    runtime: ClassVar[Runtime]

    def is_stored(self, folder: Path) -> bool:
        """Whether a model is such a variant already. No weight is read."""
        return False

    def refuse(self, task: str) -> str | None:
        """Why models for a task have no such variant; None: it may be tried."""
        return None

    @abstractmethod
    def make(self, plan: Plan) -> None:
        """Writes the variant to `target`, an empty folder. Raises Failure (CompressionFailed)."""


def copy_rest(folder: Path, target: Path) -> None:
    """Copies all of a model's files that are no weights: configuration, tokenizer, chat template, pooling, manifest."""
    for path in walk_files(folder):
        name = path.relative_to(folder)
        if path.name.endswith(_WEIGHTS) or path.name in (FILES, MODEL_REFERENCE):
            continue
        if any(part.startswith(".") for part in name.parts):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def load(plan: Plan, number: Literal["fp32", "bf16"]) -> tuple[Package, Any]:
    """The model as the server loads it, in a number format. Raises Failure (ModelInvalid)."""
    told = ServerConfig(name="build", task=plan.task, folder=plan.folder.name, variant=number)
    package = open_package(plan.folder, told)
    return package, load_model(package, TASKS[plan.task].output, count_threads(1)).cpu()
