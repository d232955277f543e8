"""OCI image layouts: written from folders with no daemon and no registry, read from folders and archives."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .shell import ClusterError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
NAME_ANNOTATION = "io.containerd.image.name"
TAG_ANNOTATION = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Recipe:
    """What goes into a one-layer image; `config` is the OCI image configuration's `config` object."""

    name: str
    root: Path
    config: dict[str, Any]
    exclude: list[str] = field(default_factory=list)


def encode(value: Any) -> bytes:
    """Return `value` as the JSON bytes that an image's digests are made of."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def digest_of(content: bytes) -> str:
    """Return the digest of `content` in the form `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    """Return the OCI descriptor that refers to `content`."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def index_of(manifest: dict[str, Any], name: str) -> bytes:
    """Return an index.json that names one manifest the way containerd, buildah and kind understand."""
    annotations = {NAME_ANNOTATION: name, TAG_ANNOTATION: name.rsplit(":", 1)[-1]}
    return encode({"schemaVersion": 2, "manifests": [{**manifest, "annotations": annotations}]})


def write_layout(target: Path, recipe: Recipe, architecture: str) -> None:
    """Write the image as a layout folder at `target`, replacing what is there in one step at the end.

    The layer is not compressed: both writing it and importing it are bound by the disk alone. File times and
    owners' names are left out, so the same files give the same digests.
    """
    building = target.with_name(target.name + ".new")
    shutil.rmtree(building, ignore_errors=True)
    blobs = building / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer = _write_layer(blobs, recipe)
    config = encode(
        {
            "architecture": architecture,
            "os": "linux",
            "config": recipe.config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            "history": [{"created_by": recipe.name}],
        }
    )
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(config, CONFIG_TYPE),
            "layers": [layer],
        }
    )
    for content in (config, manifest):
        (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
    (building / "index.json").write_bytes(index_of(descriptor(manifest, MANIFEST_TYPE), recipe.name))
    (building / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    shutil.rmtree(target, ignore_errors=True)
    building.rename(target)


def _write_layer(blobs: Path, recipe: Recipe) -> dict[str, Any]:
    command = ["tar", "--sort=name", "--numeric-owner", "--mtime=@0", "-C", str(recipe.root)]
    command += [f"--exclude={pattern}" for pattern in recipe.exclude] + ["-cf", "-", "."]
    checksum, size, partial = hashlib.sha256(), 0, blobs / "partial"
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar, partial.open("wb") as out:
        assert tar.stdout is not None
        while chunk := tar.stdout.read(1 << 20):
            checksum.update(chunk)
            out.write(chunk)
            size += len(chunk)
    if tar.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed with code {tar.returncode}")
    partial.rename(blobs / checksum.hexdigest())
    return {"mediaType": LAYER_TYPE, "digest": "sha256:" + checksum.hexdigest(), "size": size}


def damage(layout: Path) -> str:
    """Say what is wrong with a layout (missing, truncated or changed blobs), or return an empty string."""
    try:
        manifest = json.loads((layout / "index.json").read_bytes())["manifests"][0]
        wanted = [manifest]
        content = json.loads(_blob(layout, manifest["digest"]).read_bytes())
        wanted += [content["config"], *content["layers"]]
        for entry in wanted:
            blob = _blob(layout, entry["digest"])
            checksum = hashlib.sha256()
            with blob.open("rb") as source:
                while chunk := source.read(1 << 20):
                    checksum.update(chunk)
            if "sha256:" + checksum.hexdigest() != entry["digest"]:
                return f"{blob} does not have the content its name promises"
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        return f"{layout} can not be read: {error}"
    return ""


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.split(":", 1)[1]
