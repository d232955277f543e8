"""Build the images whose inputs changed: `python3 images/build.py [operator|trainer|server|all] [--load CLUSTER]`.

`python3 images/build.py tags` prints the images' names as JSON and builds nothing. An image's tag is a digest
of what it is made of, so an unchanged checkout finds its images there. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from images.building.builders import Builder, choose_builder  # noqa: E402
from images.building.loading import find_target  # noqa: E402
from images.building.recipe import BUILD_LOCK, RECIPES, Recipe, reference, stage  # noqa: E402
from requirements.wheels import ensure_wheels, identify, read_lock  # noqa: E402
from tests.cluster import cache  # noqa: E402
from tests.cluster.shell import ClusterError, say  # noqa: E402


@contextmanager
def collect_wheels(locks: Sequence[Path]) -> Iterator[Path]:
    """Give a folder with the files that the locks name, and pip's, linked from the wheel cache."""
    store = ensure_wheels([ROOT / BUILD_LOCK, *locks])
    wanted = {(pin.name, pin.version) for lock in locks for pin in read_lock(lock)}
    wanted |= {(pin.name, pin.version) for pin in read_lock(ROOT / BUILD_LOCK) if pin.name == "pip"}
    with tempfile.TemporaryDirectory(dir=cache.root(), prefix=".wheels") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        for file in store.iterdir():
            if "-" in file.name and identify(file.name) in wanted:
                os.link(file, folder / file.name)
        yield folder


def ensure_image(builder: Builder, recipe: Recipe) -> str:
    """Build the image unless the builder's store has it; return its name."""
    with tempfile.TemporaryDirectory(dir=cache.root(), prefix=".context") as scratch:
        context = Path(scratch)
        stage(ROOT, recipe, context)
        image = reference(context, recipe, builder.base())
        if not builder.has(image):
            build(builder, recipe, image, context)
    return image


def build(builder: Builder, recipe: Recipe, image: str, context: Path) -> None:
    """Build the image from its staged files, then forget its oldest builds."""
    say(f"building {image}")
    started = time.monotonic()
    with collect_wheels([ROOT / recipe.lock]) as wheels:
        builder.build(context, recipe, image, wheels)
    builder.discard_old(recipe)
    say(f"built {image} in {time.monotonic() - started:.1f} s")


def load_images(builder: Builder, images: Sequence[str], cluster: str) -> None:
    """Load into the cluster what it does not have."""
    target = find_target(cluster)
    for image in images:
        if not target.has(image):
            started = time.monotonic()
            target.load(builder, image)
            say(f"loaded {image} into {cluster} in {time.monotonic() - started:.1f} s")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description="Build the images whose inputs changed, and load them into a cluster."
    )
    parser.add_argument(
        "what", nargs="?", default="all", choices=[*RECIPES, "all", "tags"], help="default: all"
    )
    parser.add_argument("--load", metavar="CLUSTER", help="load the images into this cluster as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says; standard output is the images' names as JSON."""
    options = parse(arguments)
    try:
        builder = choose_builder()
        chosen = [RECIPES[options.what]] if options.what in RECIPES else list(RECIPES.values())
        if options.what == "tags":
            images = {recipe.name: reference(ROOT, recipe, builder.base()) for recipe in chosen}
        else:
            with cache.locked(cache.root() / "images.lock", "building images"):
                images = {recipe.name: ensure_image(builder, recipe) for recipe in chosen}
                if options.load:
                    load_images(builder, list(images.values()), options.load)
    except (ClusterError, FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(f"images: {error}")
    print(json.dumps(images, indent=2))


if __name__ == "__main__":
    main()
