"""Bringing built images into a cluster's container store."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from images.building.builders import Buildah, Builder
from tests.cluster import binaries, cache, oci, plan
from tests.cluster.shell import ClusterError, attempt, run


class Target(Protocol):
    """A cluster that images can be loaded into."""

    def has(self, image: str) -> bool:
        """Tell whether the cluster holds the image, complete and unpacked."""

    def load(self, builder: Builder, image: str) -> None:
        """Bring the image from the builder's store into the cluster."""


class Containerd:
    """The container store of the local cluster's node."""

    def __init__(self, cluster: plan.Cluster) -> None:
        ctr = binaries.folder() / "ctr"
        self.command = [str(ctr), "--address", str(cluster.socket), "--namespace", "k8s.io"]
        if attempt([*self.command, "version"]) is None:
            raise ClusterError(
                f"cluster '{cluster.name}' is not running: make cluster-up NAME={cluster.name}"
            )

    def has(self, image: str) -> bool:
        """Tell whether the store holds every blob of the image and has unpacked it."""
        words = (attempt([*self.command, "images", "check", f"name=={image}"]) or "").split()
        return image in words and "complete" in words and words[-1] == "true"

    def load(self, builder: Builder, image: str) -> None:
        """Import the image; of blobs that the store has already, only their names are sent."""
        if isinstance(builder, Buildah):
            held = set(run([*self.command, "content", "ls", "--quiet"]).split())
            try:
                self._import_layout(builder, image, held)
            except ClusterError:
                # The store may have dropped a blob since it was asked.
                if not held:
                    raise
                self._import_layout(builder, image, set())
        else:
            self._import(["docker", "save", image])
        if not self.has(image):
            raise ClusterError(
                f"{image} was imported, yet containerd does not call it complete: load it again"
            )
        self._discard_old(builder, image)

    def _import_layout(self, builder: Buildah, image: str, held: set[str]) -> None:
        with scratch_folder() as folder:
            layout = folder / "layout"
            blobs = layout / "blobs" / "sha256"
            blobs.mkdir(parents=True)
            left_out = [layer for layer in builder.list_layers(image) if layer["digest"] in held]
            for layer in left_out:
                # buildah does not write a blob that is there; a file of holes with the right size stands for it.
                with (blobs / hex_of(layer)).open("wb") as placeholder:
                    placeholder.truncate(layer["size"])
            builder.export(image, layout)
            name_image(layout, image)
            excluded = [f"--exclude=./blobs/sha256/{hex_of(layer)}" for layer in left_out]
            self._import(["tar", "-C", str(layout), *excluded, "-cf", "-", "."])

    def _import(self, source: Sequence[str]) -> None:
        """Stream an archive, as the command `source` writes it, into the store."""
        with subprocess.Popen(source, stdout=subprocess.PIPE) as archive:
            done = subprocess.run(
                [*self.command, "images", "import", "--local", "-"], stdin=archive.stdout, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            if archive.stdout is not None:
                archive.stdout.close()  # or a source whose reader has failed would wait for ever
        if done.returncode or archive.returncode:
            raise ClusterError(f"importing into containerd failed: {done.stderr.strip()[-1000:]}")

    def _discard_old(self, builder: Builder, image: str) -> None:
        """Remove builds of the image that the builder has discarded, with the kubelet's own names for them."""
        repository = image.rpartition(":")[0]
        kept = {image, *builder.list_tags(repository)}
        listed = [line.split() for line in run([*self.command, "images", "ls"]).splitlines()[1:]]
        digests = {words[0]: words[2] for words in listed}
        for name in digests:
            if name.startswith(f"{repository}:") and name not in kept:
                aliases = [other for other, digest in digests.items() if digest == digests[name]]
                attempt([*self.command, "images", "rm", "--sync", *aliases])


class Kind:
    """A cluster made by kind, whose nodes are Docker containers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = (attempt(["kind", "get", "nodes", "--name", name]) or "").split()
        if not self.nodes:
            raise ClusterError(f"there is no cluster '{name}': make cluster-up NAME={name}")

    def has(self, image: str) -> bool:
        """Tell whether every node holds the image."""
        question = ["crictl", "inspecti", "--quiet", image]
        return all(attempt(["docker", "exec", node, *question]) is not None for node in self.nodes)

    def load(self, builder: Builder, image: str) -> None:
        """Copy the image from Docker's store to the nodes."""
        run(["kind", "load", "docker-image", "--name", self.name, image])


def find_target(name: str) -> Target:
    """Return the cluster to load into; ClusterError says how to start one."""
    cluster = plan.load(name)
    if cluster is None:
        if shutil.which("kind"):
            return Kind(name)
        raise ClusterError(f"there is no cluster '{name}': make cluster-up NAME={name}")
    if cluster.control_plane_only:
        raise ClusterError(f"cluster '{name}' has no node that could run images: load into one with a node")
    return Containerd(cluster)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a temporary folder on the cache's disk: layers may have gigabytes."""
    with tempfile.TemporaryDirectory(dir=cache.root(), prefix=".load") as folder:
        yield Path(folder)


def hex_of(layer: dict[str, Any]) -> str:
    """Return a descriptor's digest without its algorithm: the blob's file name."""
    return str(layer["digest"]).partition(":")[2]


def name_image(layout: Path, image: str) -> None:
    """Give the layout's one manifest the full name under which containerd shall know it."""
    [manifest] = json.loads((layout / "index.json").read_text())["manifests"]
    (layout / "index.json").write_bytes(oci.index_of(manifest, image))
