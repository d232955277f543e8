"""Images that another node on this machine holds: their content and unpacked layers are linked, not copied.

A trainer image costs a minute or two and 8 GB a node; its links cost seconds and nothing. Neither side writes into
what they share: content is addressed by its hash, and the lower layers of an overlay are read only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import images, oci, plan
from .plan import Node
from .shell import ClusterError, attempt, run

# ctr keeps what it makes from being collected, for ever unless this is taken away.
ROOT_LABEL = "containerd.io/gc.root"


@contextmanager
def borrowed(node: Node, image: str) -> Iterator[None]:
    """Give a node what another one, of any cluster, holds of an image; what is imported meanwhile then keeps it.

    Where none holds it, or links are impossible, the node is left to be sent everything.
    """
    made: list[str] = []
    for peer in _peers(node):
        digest = _digest(peer, image)
        if digest and digest != _digest(node, image):
            try:
                _borrow(peer, node, digest, made)
            except (ClusterError, OSError):
                continue  # another disk, or a peer that is just being stopped
            break
    try:
        yield
    finally:
        for key in made:
            attempt(images.ctr(node, "snapshots", "label", key, f"{ROOT_LABEL}="))


def chain(diffs: Iterable[str]) -> list[str]:
    """Return the names of unpacked layers: each from its own digest and the name of the one below."""
    names: list[str] = []
    for diff in diffs:
        names.append(oci.digest_of(f"{names[-1]} {diff}".encode()) if names else diff)
    return names


def _peers(node: Node) -> list[Node]:
    every = [other for cluster in plan.known() for other in cluster.nodes]
    return [other for other in every if other != node and other.socket.exists()]


def _digest(node: Node, image: str) -> str | None:
    said = attempt(images.ctr(node, "images", "ls", f"name=={image}"), seconds=20) or ""
    rows = [line.split() for line in said.splitlines()[1:]]
    return rows[0][2] if rows else None


def _borrow(peer: Node, node: Node, digest: str, made: list[str]) -> None:
    manifest = _read(peer, digest)
    config = manifest["config"]["digest"]
    names = chain(_read(peer, config)["rootfs"]["diff_ids"])
    below: list[str] = []
    with _unpacked(peer, names[-1]) as sources:
        for name, source in zip(names, sources):  # noqa: B905 (Python 3.9 has no strict)
            if attempt(images.ctr(node, "snapshots", "info", name)) is None:
                _link_layer(peer, node, name, below, source)
                made.append(name)
            below = [name]
    held = images.held_content(node)
    for blob in {config, *(layer["digest"] for layer in manifest["layers"])} - held:
        _link_content(peer, node, blob)


def _read(node: Node, digest: str) -> Any:
    return json.loads(run(images.ctr(node, "content", "get", digest)))


@contextmanager
def _unpacked(node: Node, top: str) -> Iterator[list[str]]:
    """Give the folders of an image's layers, the lowest first; meanwhile none is removed."""
    view = f"view-{os.getpid()}"
    try:
        yield folders(run(images.ctr(node, "snapshots", "view", "--mounts", view, top)))
    finally:
        attempt(images.ctr(node, "snapshots", "rm", view))


def folders(mounts: str) -> list[str]:
    """Return the folders in what `ctr` prints of a snapshot's mount: those below, the lowest first, and its own."""
    (mount,) = json.loads(mounts)
    if mount["Type"] == "bind":
        return [mount["Source"]]
    options = dict(option.partition("=")[::2] for option in mount["Options"])
    return [*reversed(options["lowerdir"].split(":")), *filter(None, [options.get("upperdir")])]


def _link_layer(peer: Node, node: Node, name: str, below: list[str], source: str) -> None:
    draft = f"draft-{name[-12:]}-{os.getpid()}"
    target = folders(run(images.ctr(node, "snapshots", "prepare", "--mounts", draft, *below)))[-1]
    try:
        run(["cp", "--archive", "--link", f"{source}/.", target])
        # A peer that is just being wiped answers no more before its files go.
        run(images.ctr(peer, "snapshots", "info", name))
        run(images.ctr(node, "snapshots", "commit", name, draft))
    except ClusterError:
        attempt(images.ctr(node, "snapshots", "rm", draft))
        raise


def _link_content(peer: Node, node: Node, digest: str) -> None:
    """Link a blob and have containerd take it up, which finds it there and copies nothing."""
    source, target = _blob(peer, digest), _blob(node, digest)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    command = images.ctr(node, "content", "ingest", "--expected-digest", digest, digest)
    # It seeks to the end of what it finds in the store: no pipe will do.
    run(["sh", "-c", 'exec "$@" < "$0"', source, *command])


def _blob(node: Node, digest: str) -> Path:
    store = node.state / "containerd" / "io.containerd.content.v1.content"
    return store / "blobs" / "sha256" / digest.partition(":")[2]
