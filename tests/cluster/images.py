"""Put images into a node's containerd: only the content that it does not hold yet."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Collection
from pathlib import Path

from . import archive, binaries
from .plan import Node
from .shell import ClusterError, run

IMPORT_SECONDS = 1800.0


def load(node: Node, path: Path, name: str | None = None) -> str:
    """Import the image at `path`, drop the one that had its name before; return what was done."""
    with archive.opened(path, name) as image:
        before = held_images(node).get(image.name)
        if before == image.digest:
            return f"{image.name} is loaded already"
        started = time.monotonic()
        try:
            written = _stream(node, image, held_content(node))
        except ClusterError:
            # Content that was there when we asked may have been collected since: then send everything.
            written = _stream(node, image, ())
        if before:
            remove_unnamed(node, before)
        return f"loaded {image.name}: {written >> 20} MiB in {time.monotonic() - started:.1f} s"


def ctr(node: Node, *words: str) -> list[str]:
    """Return a command of containerd's client for the images and containers that kubelet sees."""
    return [str(binaries.folder() / "ctr"), "--address", str(node.socket), "--namespace", "k8s.io", *words]


def held_images(node: Node) -> dict[str, str]:
    """Return the digest of each image name."""
    rows = (line.split() for line in run(ctr(node, "images", "ls")).splitlines()[1:])
    return {row[0]: row[2] for row in rows}


def held_content(node: Node) -> set[str]:
    """Return the digests of all blobs."""
    return set(run(ctr(node, "content", "ls", "--quiet")).split())


def remove_unnamed(node: Node, digest: str) -> None:
    """Remove the names that kubelet's side gave to an image which no longer has a name of its own.

    Without this a replaced image, gigabytes perhaps, stays for ever.
    """
    names = [name for name, held in held_images(node).items() if held == digest]
    if names and all(name.startswith("sha256:") for name in names):
        run(ctr(node, "images", "rm", "--sync", *names))


def _stream(node: Node, image: archive.Image, held: Collection[str]) -> int:
    # --local unpacks in the client, which is faster and needs no temporary copy in the daemon.
    command = ctr(node, "images", "import", "--local", "-")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        # A daemon that hangs takes nothing and says nothing; the pipe breaks when its client is gone.
        killer = threading.Timer(IMPORT_SECONDS, process.kill)
        killer.start()
        assert process.stdin is not None
        assert process.stdout is not None
        written, broken = 0, False
        try:
            with process.stdin:
                written = image.write(process.stdin, held)
            said = process.stdout.read().decode(errors="replace")
        except BrokenPipeError:
            broken = True  # it has said why
            said = process.stdout.read().decode(errors="replace")
        finally:
            killer.cancel()
    if process.returncode or broken:
        raise ClusterError(
            f"containerd did not take {image.name} (is {os.fspath(node.socket)} up?): {said[-1500:]}"
        )
    return written
