"""The modules of a model folder for sentence-transformers.

The transformer lies at the top, and what follows it (pooling, normalising) has a folder each, with its settings.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from modelyard_models.failure import Failure
from modelyard_models.files import read_json

MODULES = "modules.json"


def list_folders(folder: Path, uri: str) -> list[str]:
    """The modules' own folders, relative to the model's. Raises Failure (ModelInvalid) for one outside of it."""
    modules = read_json(folder / MODULES)
    paths = (
        [module.get("path") for module in modules if isinstance(module, dict)]
        if isinstance(modules, list)
        else []
    )
    named = [PurePosixPath(path) for path in paths if isinstance(path, str) and path]
    for path in named:
        if path.is_absolute() or ".." in path.parts:
            raise Failure(
                "ModelInvalid",
                f"{uri}: {MODULES} names {str(path)!r}, which lies outside the model's folder; save it anew",
            )
    return [path.as_posix() for path in named if path.parts]
