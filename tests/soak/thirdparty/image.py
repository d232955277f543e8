"""Builds the image and loads it, as the product's own are."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from images.build import collect_wheels, load_images
from images.building.builders import choose_builder
from images.building.recipe import REPOSITORY, Recipe
from tests.cluster import cache

HERE = Path(__file__).parent
FILES = ("Dockerfile", "requirements.txt")


def provide(server_image: str, cluster: str = "default") -> str:
    """Its name. server_image: what it stands on. Raises ClusterError when it can't be built or loaded."""
    content = "\0".join([server_image, *((HERE / name).read_text() for name in FILES)])
    image = f"{REPOSITORY}/third-party:{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    recipe = Recipe("third-party", "Dockerfile", "requirements.txt", (), (("SERVER_IMAGE", server_image),))
    builder = choose_builder()
    with cache.locked(cache.root() / "images.lock", "building images"):
        if not builder.has(image):
            with (
                tempfile.TemporaryDirectory(dir=cache.root(), prefix=".context") as scratch,
                collect_wheels([HERE / recipe.lock]) as wheels,
            ):
                for name in FILES:
                    shutil.copyfile(HERE / name, Path(scratch) / name)
                builder.build(Path(scratch), recipe, image, wheels)
            builder.discard_old(recipe)
        load_images(builder, [image], cluster)
    return image
