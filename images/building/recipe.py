"""What each image is made of, and the tag that follows from it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = "localhost/modelyard"
BUILD_LOCK = "requirements/build.txt"


@dataclass(frozen=True)
class Recipe:
    """An image: its Dockerfile, the lock file of its packages, what else it copies, and its build arguments.

    Paths are relative to the repository's root. `sources` holds files and folders.
    """

    name: str
    dockerfile: str
    lock: str
    sources: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...] = ()


OPERATOR = Recipe(
    name="operator",
    dockerfile="images/operator/Dockerfile",
    lock="requirements/operator.txt",
    sources=("images/install.sh", "images/agent", "operator/modelyard"),
)
TRAINER = Recipe(
    name="trainer",
    dockerfile="images/trainer/Dockerfile",
    lock="requirements/trainer-cpu.txt",
    sources=(
        "images/install.sh",
        "images/agent",
        "images/models/modelyard_models",
        "images/trainer/modelyard_trainer",
        "operator/modelyard/__init__.py",
        "operator/modelyard/api",
        "operator/modelyard/contract",
    ),
    arguments=(("REQUIREMENTS", "requirements/trainer-cpu.txt"),),
)
SERVER = Recipe(
    name="server",
    dockerfile="images/server/Dockerfile",
    lock="requirements/server-cpu.txt",
    sources=(
        "images/install.sh",
        "images/agent/modelyard_agent/__init__.py",
        "images/agent/modelyard_agent/resources.py",
        "images/models/modelyard_models",
        "images/server/modelyard_build",
        "images/server/modelyard_server",
        "operator/modelyard/__init__.py",
        "operator/modelyard/api",
        "operator/modelyard/contract",
    ),
    arguments=(("REQUIREMENTS", "requirements/server-cpu.txt"),),
)
GATEWAY = Recipe(
    name="gateway",
    dockerfile="images/gateway/Dockerfile",
    lock="requirements/gateway.txt",
    sources=(
        "images/install.sh",
        "images/gateway/modelyard_gateway",
        "operator/modelyard/__init__.py",
        "operator/modelyard/contract",
    ),
)
RECIPES = {recipe.name: recipe for recipe in (OPERATOR, TRAINER, SERVER, GATEWAY)}


def list_files(root: Path, sources: Iterable[str]) -> Iterator[Path]:
    """Yield the files below the sources in a fixed order, as .dockerignore lets them through.

    Raises FileNotFoundError for a source that is not there.
    """
    for source in sources:
        path = root / source
        if path.is_file():
            yield path
        elif path.is_dir():
            files = (file for file in path.rglob("*") if file.is_file())
            yield from sorted(
                file for file in files if "__pycache__" not in file.parts and file.suffix != ".pyc"
            )
        else:
            raise FileNotFoundError(f"{source} is missing, which {REPOSITORY} images are made of")


def list_inputs(root: Path, recipe: Recipe) -> list[Path]:
    """Return the files that the image is made of, in a fixed order."""
    return list(list_files(root, (recipe.dockerfile, ".dockerignore", recipe.lock, *recipe.sources)))


def stage(root: Path, recipe: Recipe, context: Path) -> None:
    """Copy the image's files from the checkout into an empty folder, to be hashed and built from there.

    What is edited during a build then goes into no image under a name that was computed before, and
    permissions do not depend on the checkout's umask.
    """
    for file in list_inputs(root, recipe):
        target = context / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        target.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def reference(root: Path, recipe: Recipe, base: str) -> str:
    """Return the image's full name; its tag is a digest of everything that the image is made of.

    `base` identifies the image it starts from. Of permissions only the executable bit counts, times do not.
    """
    digest = hashlib.sha256(f"{base}\0{recipe.arguments}".encode())
    for file in list_inputs(root, recipe):
        executable = file.stat().st_mode & 0o100
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"\0{file.relative_to(root)}\0{executable}\0{content}".encode())
    return f"{REPOSITORY}/{recipe.name}:{digest.hexdigest()[:12]}"
