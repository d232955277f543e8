"""Bringing built images into a cluster: what it lacks, and no layer twice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from images.building.builders import Builder
from tests.cluster import cache, images, kind, native, plan, sharing
from tests.cluster.shell import ClusterError, attempt


class Target(Protocol):
    """A cluster that images can be loaded into."""

    def has(self, image: str) -> bool:
        """Tell whether the cluster holds the image, complete and unpacked."""

    def load(self, builder: Builder, image: str) -> None:
        """Bring the image from the builder's store into the cluster."""


class Native:
    """A cluster that runs as processes of this machine."""

    def __init__(self, cluster: plan.Cluster) -> None:
        if cluster.control_plane_only:
            raise ClusterError(
                f"cluster '{cluster.name}' has no node that could run images: load into another"
            )
        if not native.is_up(cluster):
            raise ClusterError(f"cluster '{cluster.name}' is not up: make cluster-up NAME={cluster.name}")
        self.cluster = cluster

    def has(self, image: str) -> bool:
        """Tell whether every node's containerd has every blob of the image and has unpacked it."""
        return all(_has(node, image) for node in self.cluster.nodes)

    def load(self, builder: Builder, image: str) -> None:
        """Import the image less the layers that containerd has; forget builds that the builder forgot."""
        for node in self.cluster.nodes:
            with sharing.borrowed(node, image):
                held = images.held_content(node)
                try:
                    self._import(node, builder, image, held)
                except ClusterError:
                    # containerd may have dropped a layer since it was asked: then all of them are sent.
                    self._import(node, builder, image, set())
            if not _has(node, image):
                raise ClusterError(
                    f"{image} was imported, yet containerd does not call it complete: load it again"
                )
            _discard_old(node, builder, image)

    def _import(self, node: plan.Node, builder: Builder, image: str, held: set[str]) -> None:
        with scratch_folder() as folder:
            images.load(node, builder.export(image, folder, held), image)


class Kind:
    """A cluster made by kind, whose nodes are Docker containers."""

    def __init__(self, name: str) -> None:
        self.name = name

    def has(self, image: str) -> bool:
        """Tell whether every node has the image."""
        question = ["crictl", "inspecti", "--quiet", image]
        return all(attempt(["docker", "exec", name, *question]) is not None for name in kind.nodes(self.name))

    def load(self, builder: Builder, image: str) -> None:
        """Copy the image to the nodes."""
        with scratch_folder() as folder:
            kind.load(self.name, builder.export(image, folder, set()), None)


def _has(node: plan.Node, image: str) -> bool:
    said = attempt(images.ctr(node, "images", "check", f"name=={image}")) or ""
    words = said.split()
    return image in words and "complete" in words and words[-1] == "true"


def _discard_old(node: plan.Node, builder: Builder, image: str) -> None:
    repository = image.rpartition(":")[0]
    kept = {image, *builder.list_tags(repository)}
    for name, digest in images.held_images(node).items():
        if name.startswith(f"{repository}:") and name not in kept:
            attempt(images.ctr(node, "images", "rm", "--sync", name))
            images.remove_unnamed(node, digest)


def find_target(name: str) -> Target:
    """Return the cluster to load into; ClusterError says how to start one."""
    cluster = plan.load(name)
    if cluster is not None:
        return Native(cluster)
    if kind.is_available() and kind.exists(name):
        return Kind(name)
    raise ClusterError(f"there is no cluster '{name}': make cluster-up NAME={name}")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a temporary folder on the cache's disk: images have gigabytes."""
    with tempfile.TemporaryDirectory(dir=cache.root(), prefix=".load") as folder:
        yield Path(folder)
