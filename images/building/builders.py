"""The two programs that build: Docker where an engine answers, else buildah, which needs no daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from images.building.recipe import REPOSITORY, Recipe
from tests.cluster import base_image, cache, oci, versions
from tests.cluster.prerequisites import ensure_programs
from tests.cluster.shell import BUILD, DOWNLOAD, ClusterError, attempt, run

PUBLIC_BASE = "python:3.11-slim-bookworm"
LOCAL_BASE = "localhost/base:1"
FEW_BYTES = 64 << 20  # layers up to this size in all are not worth a copy of the whole image
KEPT_TAGS = 3  # of each image: what a running release and the one before may still name


class Builder(ABC):
    """Builds images and keeps them in a store of its own."""

    @abstractmethod
    def base(self) -> str:
        """Return what identifies the base image: part of every tag."""

    @abstractmethod
    def has(self, image: str) -> bool:
        """Tell whether the store holds the image."""

    @abstractmethod
    def build(self, context: Path, recipe: Recipe, image: str, wheels: Path) -> None:
        """Build the image from the folder `context`, with packages from the folder `wheels`."""

    @abstractmethod
    def list_tags(self, repository: str) -> list[str]:
        """Return the store's images of a repository, the newest first."""

    @abstractmethod
    def remove(self, image: str) -> None:
        """Remove an image from the store, if nothing uses it."""

    @abstractmethod
    def export(self, image: str, folder: Path, held: Collection[str]) -> Path:
        """Write the image as an archive or a layout into the folder and return its path.

        The content of layers whose digests are in `held` may be left out: its reader has them.
        """

    def discard_old(self, recipe: Recipe) -> None:
        """Remove the image's oldest builds; what cannot be removed is in use and stays."""
        for image in self.list_tags(f"{REPOSITORY}/{recipe.name}")[KEPT_TAGS:]:
            with suppress(ClusterError):
                self.remove(image)


class Docker(Builder):
    """docker buildx; the images are in the engine's store."""

    def base(self) -> str:
        return PUBLIC_BASE

    def has(self, image: str) -> bool:
        return attempt(["docker", "image", "inspect", "--format", "{{.Id}}", image]) is not None

    def build(self, context: Path, recipe: Recipe, image: str, wheels: Path) -> None:
        command = [
            "docker",
            "buildx",
            "build",
            "--load",
            "--tag",
            image,
            "--build-context",
            f"wheels={wheels}",
        ]
        follow([*command, *common_options(recipe, PUBLIC_BASE), "."], context)

    def list_tags(self, repository: str) -> list[str]:
        return run(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]).split()

    def remove(self, image: str) -> None:
        run(["docker", "image", "rm", image])

    def export(self, image: str, folder: Path, held: Collection[str]) -> Path:
        archive = folder / "image.tar"
        run(["docker", "save", "--output", str(archive), image], seconds=DOWNLOAD)
        return archive


class Buildah(Builder):
    """buildah with chroot isolation and a store in the cache; starts from the local cluster's base image."""

    def __init__(self) -> None:
        self.folder = cache.root() / "buildah"
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.command = ["buildah", "--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]
        # buildah writes whole layers to its temporary folder.
        self.environment = {"TMPDIR": str(self.folder / "tmp")}

    def base(self) -> str:
        index = json.loads((base_image.ensure_base() / "index.json").read_text())
        return str(index["manifests"][0]["digest"])

    def has(self, image: str) -> bool:
        return (
            attempt([*self.command, "inspect", "--type", "image", "--format", "{{.FromImageID}}", image])
            is not None
        )

    def build(self, context: Path, recipe: Recipe, image: str, wheels: Path) -> None:
        self._provide_base()
        command = [*self.command, "bud", "--isolation", "chroot", "--layers", "--pull-never", "--tag", image]
        command += ["--build-context", f"wheels={wheels}", *common_options(recipe, LOCAL_BASE), "."]
        follow(command, context, self.environment)

    def _provide_base(self) -> None:
        """Put the present base image into the store under its name."""
        layout = base_image.ensure_base()
        known = self.folder / "base"
        wanted = self.base()
        if known.exists() and known.read_text() == wanted and self.has(LOCAL_BASE):
            return
        # buildah derives a name from the path, so the path has to look like one.
        identity = run(
            [*self.command, "pull", "--quiet", f"oci:{layout.name}"],
            cwd=layout.parent,
            env=self.environment,
            seconds=DOWNLOAD,
        )
        run([*self.command, "tag", identity.strip(), LOCAL_BASE])
        known.write_text(wanted)

    def list_tags(self, repository: str) -> list[str]:
        answer = json.loads(run([*self.command, "images", "--json"]) or "[]")
        found = [(image["createdatraw"], name) for image in answer for name in image["names"] or ()]
        return [name for _, name in sorted(found, reverse=True) if name.startswith(f"{repository}:")]

    def remove(self, image: str) -> None:
        run([*self.command, "rmi", image])

    def export(self, image: str, folder: Path, held: Collection[str]) -> Path:
        layers = self._list_layers(image)
        missing = [layer for layer in layers if layer["digest"] not in held]
        if sum(layer["size"] for layer in missing) > FEW_BYTES:
            return self._export_whole(image, folder)
        layout = folder / "layout"
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for layer in layers:
            if layer not in missing:
                # buildah writes no blob that is there; a file of holes with the right size stands for it.
                with (blobs / layer["digest"].partition(":")[2]).open("wb") as placeholder:
                    placeholder.truncate(layer["size"])
        self._push(image, f"oci:{layout.name}:image", folder)
        return layout

    def _export_whole(self, image: str, folder: Path) -> Path:
        """Write all layers uncompressed. buildah compresses what it writes into a layout, at 15 MB/s; into a
        plain folder it does not, which then takes a layout's form by renames.
        """
        self._push(image, "dir:plain", folder)
        manifest = (folder / "plain" / "manifest.json").read_bytes()
        described = oci.descriptor(manifest, oci.MANIFEST_TYPE)
        layout = folder / "layout"
        (layout / "blobs").mkdir(parents=True)
        (folder / "plain").rename(layout / "blobs" / "sha256")
        (layout / "blobs" / "sha256" / oci.digest_of(manifest).partition(":")[2]).write_bytes(manifest)
        (layout / "index.json").write_bytes(oci.index_of(described, image))
        (layout / "oci-layout").write_bytes(oci.encode({"imageLayoutVersion": "1.0.0"}))
        return layout

    def _push(self, image: str, target: str, folder: Path) -> None:
        command = [
            *self.command,
            "push",
            "--quiet",
            "--disable-compression",
            "--format",
            "oci",
            image,
            target,
        ]
        run(command, cwd=folder, env=self.environment, seconds=DOWNLOAD)

    def _list_layers(self, image: str) -> list[dict[str, Any]]:
        """Return the descriptors (digest, size in bytes) of the image's layers, which are not compressed."""
        manifest = run([*self.command, "inspect", "--type", "image", "--format", "{{.Manifest}}", image])
        layers: list[dict[str, Any]] = json.loads(manifest)["layers"]
        return layers


def common_options(recipe: Recipe, base: str) -> list[str]:
    """Return the options that docker and buildah understand alike."""
    arguments = (("BASE_IMAGE", base), *recipe.arguments)
    return ["--file", recipe.dockerfile, *(f"--build-arg={name}={value}" for name, value in arguments)]


def follow(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run a build with its output kept in a log file; ClusterError shows the end of it, also when it takes too long."""
    log = cache.root() / "logs" / "image-build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("w") as output:
            done = subprocess.run(
                command, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, check=False, timeout=BUILD,
            )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        words = log.read_text()[-3000:]
        raise ClusterError(f"the build was not done after {BUILD:.0f} s ({log}):\n{words}") from error
    if done.returncode:
        raise ClusterError(f"the build failed ({log}):\n{log.read_text()[-3000:]}")


def choose_builder() -> Builder:
    """Return Docker if its engine answers, else buildah; ClusterError says what to install."""
    if shutil.which("docker") and attempt(["docker", "version", "--format", "{{.Server.Version}}"]):
        return Docker()
    ensure_programs(versions.BUILD_PROGRAMS)
    return Buildah()
