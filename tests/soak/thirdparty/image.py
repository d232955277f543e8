"""Builds an image and loads it, as the product's own are."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from images.build import collect_wheels, load_images
from images.building.builders import choose_builder
from images.building.recipe import REPOSITORY, Recipe
from tests.cluster import cache
from tests.cluster.shell import ClusterError

HERE = Path(__file__).parent
SYSTEM = Path("/usr/lib/x86_64-linux-gnu")
DOCKERFILE = "Dockerfile"
# Of this machine's own distribution, which is the images'.
LIBRARIES = {"transformers": (), "vllm": ("libnuma.so.1",)}


def provide(server: Literal["transformers", "vllm"], base: str, cluster: str = "default") -> str:
    """Its name. base: the model server's image, on which it stands.

    Raises ClusterError when it can't be built or loaded.
    """
    lock = HERE / f"{server}.txt"
    content = "\0".join([base, (HERE / DOCKERFILE).read_text(), lock.read_text()])
    name = f"third-party-{server}"
    image = f"{REPOSITORY}/{name}:{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    recipe = Recipe(name, DOCKERFILE, "requirements.txt", (), (("SERVER_IMAGE", base),))
    builder = choose_builder()
    with cache.locked(cache.root() / "images.lock", "building images"):
        if not builder.has(image):
            with (
                tempfile.TemporaryDirectory(dir=cache.root(), prefix=".context") as scratch,
                collect_wheels([lock]) as wheels,
            ):
                shutil.copyfile(HERE / DOCKERFILE, Path(scratch) / DOCKERFILE)
                shutil.copyfile(lock, Path(scratch) / recipe.lock)
                _copy_libraries(LIBRARIES[server], Path(scratch) / "libraries")
                builder.build(Path(scratch), recipe, image, wheels)
            builder.discard_old(recipe)
        load_images(builder, [image], cluster)
    return image


def _copy_libraries(names: Sequence[str], folder: Path) -> None:
    folder.mkdir()
    for name in names:
        source = SYSTEM / name
        if not source.exists():
            raise ClusterError(f"{source} is missing: apt-get install {name.partition('.')[0]}1")
        shutil.copyfile(source, folder / name)
