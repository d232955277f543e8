"""The model that is built from: found in the storage, or fetched to it; and what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.contract.layout import MODEL_MANIFEST
from modelyard.contract.run import ModelInput
from modelyard_models.digest import fetched_digest, model_digest
from modelyard_models.failure import Failure, shorten
from modelyard_models.fetch import fetch_model, select_files
from modelyard_models.files import read_json
from modelyard_models.modules import MODULES

from modelyard_build.settings import Settings
from modelyard_build.tasks import TASKS


@dataclass(frozen=True, slots=True)
class Model:
    """A model's folder in the storage. `digest` is that of what it is (modelyard_models.digest)."""

    folder: Path
    digest: str
    revision: str | None = None


def find_model(settings: Settings) -> Model:
    """Reads the model where it lies in our own storage, else brings it to the storage's hub.

    Raises Failure: ModelNotFound, ModelForbidden, ModelUnreachable, ModelInvalid, UnsafeModel, ModelChanged.
    """
    config = settings.config
    location = settings.locate(config.uri)
    folder, own = settings.find_claimed(location) if location.scheme == "pvc" else (settings.storage, False)
    if own:
        if not folder.is_dir():
            raise Failure("ModelNotFound", f"model {config.uri}: there is no such folder; correct the uri")
        select_files(folder, config.uri)
        model = Model(folder, model_digest(folder))
    else:
        fetched = fetch_model(settings, ModelInput(uri=config.uri, revision=config.revision))
        model = Model(fetched.folder, fetched_digest(fetched.folder), fetched.revision)
    if config.digest is not None and model.digest != config.digest:
        raise Failure(
            "ModelChanged",
            f"{config.uri} has other files than the model that was trained there ({model.digest}, not"
            f" {config.digest}): train it again, or name the folder as model.uri to serve it as it is",
        )
    return model


def find_task(told: str | None, folder: Path, uri: str) -> str:
    """The task as told, else as the folder says it. Raises Failure (TaskMismatch): the model has no head for it."""
    about = read_json(folder / "config.json")
    if not isinstance(about, dict):
        raise Failure("ModelInvalid", f"{uri}: its config.json holds no JSON object; save the model anew")
    made = about.get("architectures")
    architectures = [str(name) for name in made] if isinstance(made, list) else []
    task = told or read_task(folder, architectures)
    if task is None:
        raise Failure(
            "TaskMismatch",
            f"{uri} doesn't say what it is for (its architecture is {_list(architectures)}): set spec.task to one of"
            f" {', '.join(TASKS)}",
        )
    if task not in TASKS:
        raise Failure("TaskMismatch", f"{task} is not served yet; what is: {', '.join(TASKS)}")
    if architectures and not any(TASKS[task].fits(name) for name in architectures):
        raise Failure(
            "TaskMismatch",
            f"{uri} is a {_list(architectures)}, which has no head for {task}: name a model that was trained for it, or"
            " set spec.task to what this one does",
        )
    return task


def read_task(folder: Path, architectures: Sequence[str] = ()) -> str | None:
    """What the folder says that the model is for."""
    manifest: Any = read_json(folder / MODEL_MANIFEST)
    if isinstance(manifest, dict) and isinstance(manifest.get("task"), str):
        return str(manifest["task"])
    if (folder / MODULES).is_file():
        return "embeddings"
    for name, task in TASKS.items():
        if task.telling and any(task.fits(architecture) for architecture in architectures):
            return name
    return None


def _list(names: list[str]) -> str:
    return shorten(names, 3) if names else "unknown"
