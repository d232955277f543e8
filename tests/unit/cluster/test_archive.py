"""Images read from layouts and archives, and streamed without what the node holds already."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.cluster import archive, oci
from tests.cluster.shell import ClusterError

NAME = "localhost/app:1"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_text("content")
    oci.write_layout(tmp_path / "app.oci", oci.Recipe(NAME, root, {"Cmd": ["file"]}), "amd64")
    return tmp_path / "app.oci"


def streamed(image: archive.Image, held: set[str] | None = None) -> dict[str, bytes]:
    target = io.BytesIO()
    image.write(target, held or set())
    target.seek(0)
    with tarfile.open(fileobj=target) as content:
        return {name: content.extractfile(name).read() for name in content.getnames()}  # type: ignore[union-attr]


def pack(layout: Path, prefix: str = "") -> Path:
    target = layout.with_suffix(".tar")
    with tarfile.open(target, "w") as out:
        for path in sorted(layout.rglob("*")):
            if path.is_file():
                out.add(path, prefix + str(path.relative_to(layout)))
    return target


def docker_archive(target: Path, layer: bytes, tags: list[str] | None, link: bool = False) -> Path:
    digest = "sha256:" + hashlib.sha256(layer).hexdigest()
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode()
    manifest = json.dumps([{"Config": "c.json", "RepoTags": tags, "Layers": ["a/layer.tar"]}]).encode()
    with tarfile.open(target, "w") as out:
        for name, content in {
            "c.json": config,
            "manifest.json": manifest,
            "b/layer.tar" if link else "a/layer.tar": layer,
        }.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo("a/layer.tar")
            entry.type, entry.linkname = tarfile.SYMTYPE, "../b/layer.tar"
            out.addfile(entry)
    return target


def test_a_layout_is_streamed_whole_and_named(layout: Path) -> None:
    with archive.opened(layout) as image:
        files = streamed(image)
    blobs = {str(path.relative_to(layout)): path.read_bytes() for path in layout.glob("blobs/sha256/*")}
    assert len(blobs) == 3
    assert {name: files[name] for name in blobs} == blobs
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["annotations"] == {oci.NAME_ANNOTATION: NAME, oci.TAG_ANNOTATION: "1"}
    assert set(files) == {*blobs, "index.json", "oci-layout"}


def test_blobs_that_the_node_holds_are_left_out(layout: Path) -> None:
    with archive.opened(layout) as image:
        everything = set(image.blobs)
        files = streamed(image, everything - {image.digest})
    assert [name for name in files if name.startswith("blobs/")] == [
        "blobs/sha256/" + image.digest.split(":")[1]
    ]


@pytest.mark.parametrize("prefix", ["", "./"])
def test_an_oci_archive_is_the_same_image_as_its_layout(layout: Path, prefix: str) -> None:
    with archive.opened(layout) as folder, archive.opened(pack(layout, prefix)) as packed:
        assert packed.digest == folder.digest
        assert streamed(packed) == streamed(folder)


def test_a_docker_archive_becomes_an_oci_image_without_reading_its_layers_twice(tmp_path: Path) -> None:
    layer = b"layer" * 1000
    path = docker_archive(tmp_path / "app.tar", layer, [NAME])
    with archive.opened(path) as image:
        files = streamed(image)
    assert image.name == NAME
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(content).hexdigest() == name.rsplit("/", 1)[1]
    manifest = json.loads(files["blobs/sha256/" + image.digest.split(":")[1]])
    (described,) = manifest["layers"]
    assert described["size"] == len(layer)
    assert files["blobs/sha256/" + described["digest"].split(":")[1]] == layer


def test_a_layer_that_is_a_link_to_an_equal_one_is_followed(tmp_path: Path) -> None:
    layer = b"layer" * 1000
    with archive.opened(docker_archive(tmp_path / "app.tar", layer, [NAME], link=True)) as image:
        assert layer in streamed(image).values()


def test_compressed_layers_of_a_docker_archive_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "app.tar", gzip.compress(b"layer"), [NAME])
    with pytest.raises(ClusterError, match="export it as an OCI archive"), archive.opened(path):
        pass


def test_the_name_can_be_given(layout: Path, tmp_path: Path) -> None:
    for path in (layout, docker_archive(tmp_path / "docker.tar", b"layer", None)):
        with archive.opened(path, "localhost/other:2") as image:
            assert image.name == "localhost/other:2"


def test_an_image_without_a_name_is_refused_with_the_way_out(layout: Path, tmp_path: Path) -> None:
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["annotations"] = {oci.TAG_ANNOTATION: "1"}
    (layout / "index.json").write_text(json.dumps(index))
    for path in (layout, docker_archive(tmp_path / "docker.tar", b"layer", None)):
        with pytest.raises(ClusterError, match="--image NAME:TAG"), archive.opened(path):
            pass


def test_a_full_name_in_the_tag_annotation_is_taken(layout: Path) -> None:
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["annotations"] = {oci.TAG_ANNOTATION: "localhost/tagged:3"}
    (layout / "index.json").write_text(json.dumps(index))
    with archive.opened(layout) as image:
        assert image.name == "localhost/tagged:3"


def test_an_index_of_several_platforms_is_refused(layout: Path) -> None:
    nested = oci.encode({"schemaVersion": 2, "manifests": []})
    (layout / "blobs/sha256" / hashlib.sha256(nested).hexdigest()).write_bytes(nested)
    entry = oci.descriptor(nested, "application/vnd.oci.image.index.v1+json")
    (layout / "index.json").write_bytes(oci.index_of(entry, NAME))
    with pytest.raises(ClusterError, match="several platforms"), archive.opened(layout):
        pass


def test_a_missing_blob_is_named(layout: Path) -> None:
    packed = pack(layout)
    with archive.opened(layout) as image:
        (layout / "blobs/sha256" / image.digest.split(":")[1]).unlink()
    for path in (layout, pack(layout)):
        with pytest.raises(ClusterError, match=image.digest.split(":")[1]), archive.opened(path):
            pass
    assert packed.exists()


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no image")
    for path in (tmp_path / "text", tmp_path / "absent"):
        with pytest.raises(ClusterError, match="neither"), archive.opened(path):
            pass
