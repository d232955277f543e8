"""Read an image from a layout folder, an OCI archive or a docker archive, and stream it as an OCI archive."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import oci
from .shell import ClusterError

COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True)
class Blob:
    """Content by its digest; `open` gives it from its start."""

    digest: str
    size: int
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Image:
    """A name, the manifest's descriptor, and every blob that the manifest needs, itself included."""

    name: str
    manifest: dict[str, Any]
    blobs: dict[str, Blob]

    @property
    def digest(self) -> str:
        """The manifest's digest, which is the image's."""
        return str(self.manifest["digest"])

    def write(self, target: IO[bytes], held: Collection[str] = ()) -> int:
        """Stream the image as an OCI archive without the blobs in `held`; return the bytes of blobs sent."""
        written = 0
        with tarfile.open(fileobj=target, mode="w|", format=tarfile.GNU_FORMAT) as out:
            _add(out, "oci-layout", oci.encode({"imageLayoutVersion": "1.0.0"}))
            _add(out, "index.json", oci.index_of(self.manifest, self.name))
            for blob in self.blobs.values():
                if blob.digest in held:
                    continue
                entry = tarfile.TarInfo("blobs/sha256/" + blob.digest.split(":", 1)[1])
                entry.size = blob.size
                with blob.open() as source:
                    out.addfile(entry, source)
                written += blob.size
        return written


@contextmanager
def opened(path: Path, name: str | None = None) -> Iterator[Image]:
    """Open the image at `path`; `name` replaces the name it carries.

    Raises ClusterError when the path is not an image, or has no name and none is given.
    """
    if path.is_dir():
        yield _from_files(lambda file: _open_file(path / file), name, str(path))
    elif path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            members = {_normal(member.name): member for member in archive.getmembers()}
            reader = _Members(archive, members)
            read = _from_files if "index.json" in members else _from_docker
            yield read(reader.open, name, str(path))
    else:
        raise ClusterError(f"{path} is neither an image layout folder nor an image archive")


class _Members:
    def __init__(self, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> None:
        self._archive, self._members = archive, members

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        while member is not None and (member.issym() or member.islnk()):
            # docker save writes equal layers once and links to them.
            folder = name.rsplit("/", 1)[0] if member.issym() and "/" in name else ""
            name = _normal(f"{folder}/{member.linkname}" if folder else member.linkname)
            member = self._members.get(name)
        content = self._archive.extractfile(member) if member else None
        if content is None:
            raise ClusterError(f"the archive has no {name}: it is not a whole image")
        return content


def _from_files(read: Callable[[str], IO[bytes]], name: str | None, where: str) -> Image:
    index = _json(read("index.json"))
    if len(index["manifests"]) != 1:
        raise ClusterError(f"{where} holds {len(index['manifests'])} images; one is expected")
    manifest = {key: index["manifests"][0][key] for key in ("mediaType", "digest", "size")}
    content = _json(read(_path(manifest["digest"])))
    if "layers" not in content:
        raise ClusterError(f"{where} is for several platforms; export one: `--platform linux/amd64`")

    def blob(entry: dict[str, Any]) -> Blob:
        return Blob(entry["digest"], entry["size"], lambda: read(_path(entry["digest"])))

    blobs = {entry["digest"]: blob(entry) for entry in (manifest, content["config"], *content["layers"])}
    return Image(name or _name_in(index["manifests"][0], where), manifest, blobs)


def _from_docker(read: Callable[[str], IO[bytes]], name: str | None, where: str) -> Image:
    """Describe a docker archive in OCI's terms: the configuration has the uncompressed layers' digests."""
    (entry,) = _json(read("manifest.json"))
    config = read(entry["Config"]).read()
    layers, blobs = [], {}
    for digest, file in zip(json.loads(config)["rootfs"]["diff_ids"], entry["Layers"]):  # noqa: B905
        with read(file) as layer:
            if layer.read(4).startswith(COMPRESSED):
                raise ClusterError(f"{where} has compressed layers; export it as an OCI archive instead")
            size = layer.seek(0, io.SEEK_END)
        layers.append({"mediaType": oci.LAYER_TYPE, "digest": digest, "size": size})
        blobs[digest] = Blob(digest, size, lambda file=file: read(file))  # type: ignore[misc]
    described = oci.descriptor(config, oci.CONFIG_TYPE)
    manifest = oci.encode(
        {"schemaVersion": 2, "mediaType": oci.MANIFEST_TYPE, "config": described, "layers": layers}
    )
    for content in (config, manifest):
        digest = oci.digest_of(content)
        blobs[digest] = Blob(digest, len(content), lambda content=content: io.BytesIO(content))  # type: ignore[misc]
    tags = entry.get("RepoTags") or []
    if not name and not tags:
        raise ClusterError(f"{where} carries no image name; give one with --image NAME:TAG")
    return Image(name or tags[0], oci.descriptor(manifest, oci.MANIFEST_TYPE), blobs)


def _name_in(entry: dict[str, Any], where: str) -> str:
    annotations = entry.get("annotations") or {}
    full = annotations.get(oci.NAME_ANNOTATION) or annotations.get(oci.TAG_ANNOTATION, "")
    if ":" not in full:
        raise ClusterError(f"{where} carries no image name; give one with --image NAME:TAG")
    return str(full)


def _add(out: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    out.addfile(entry, io.BytesIO(content))


def _open_file(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise ClusterError(f"{path} is missing: it is not a whole image layout") from error


def _json(stream: IO[bytes]) -> Any:
    with stream:
        return json.load(stream)


def _path(digest: str) -> str:
    return "blobs/sha256/" + digest.split(":", 1)[1]


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
