"""Layouts written from folders."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cluster import oci


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "dev").mkdir(parents=True)
    (tmp_path / "root" / "file").write_text("content")
    (tmp_path / "root" / "dev" / "null").write_text("")
    return tmp_path / "root"


def write(target: Path, root: Path) -> Path:
    oci.write_layout(target, oci.Recipe("localhost/app:1", root, {"Cmd": ["x"]}, ["./dev/*"]), "amd64")
    return target


def manifest(layout: Path) -> dict[str, object]:
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return dict(json.loads((layout / "blobs/sha256" / entry["digest"].split(":")[1]).read_text()))


def test_the_same_files_give_the_same_image_whenever_they_were_written(root: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "one", root)
    os.utime(root / "file", (1, 1))
    assert manifest(write(tmp_path / "two", root)) == manifest(one)


def test_other_files_give_another_image(root: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "one", root)
    (root / "file").write_text("another")
    assert manifest(write(tmp_path / "two", root)) != manifest(one)


def test_excluded_files_are_not_in_the_image(root: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "one", root)
    (root / "dev" / "more").write_text("x")
    os.utime(root / "dev", (1, 1))
    assert manifest(write(tmp_path / "two", root)) == manifest(one)


def test_writing_again_replaces_the_layout(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "one", root)
    (root / "file").write_text("another")
    write(tmp_path / "one", root)
    assert len(list((tmp_path / "one/blobs/sha256").iterdir())) == 3
    assert not oci.damage(tmp_path / "one")


def test_every_damaged_blob_is_seen(root: Path, tmp_path: Path) -> None:
    layout = write(tmp_path / "one", root)
    assert oci.damage(layout) == ""
    for blob in (layout / "blobs/sha256").iterdir():
        content = blob.read_bytes()
        blob.write_bytes(content[:-1])
        assert oci.damage(layout)
        blob.unlink()
        assert oci.damage(layout)
        blob.write_bytes(content)
    assert oci.damage(layout) == ""


def test_a_missing_layout_is_damaged(tmp_path: Path) -> None:
    assert "can not be read" in oci.damage(tmp_path / "absent")
