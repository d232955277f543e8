"""What is written of an image for a cluster that has some of its layers. buildah is a small script here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from images.building import builders
from images.building.builders import Buildah, choose_builder
from images.building.recipe import Recipe
from tests.cluster import archive, prerequisites
from tests.cluster.shell import ClusterError

BIG, SMALL = builders.FEW_BYTES + 1, 1000
IMAGE = "localhost/modelyard/sample:0123456789ab"

# Answers `inspect` with the manifest, notes where `push` goes, and writes the manifest into a plain folder.
SCRIPT = """#!/bin/sh
case "$*" in
  *" inspect "*) cat "{manifest}" ;;
  *" push "*dir:plain) mkdir plain && cp "{manifest}" plain/manifest.json && printf c > plain/c
    echo dir >> "{log}" ;;
  *" push "*) echo oci >> "{log}" ;;
  *" images "*) cat "{images}" ;;
  *) echo "$*" >> "{log}" ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELYARD_CACHE", str(tmp_path / "cache"))
    layers = [{"digest": "sha256:aa", "size": BIG}, {"digest": "sha256:bb", "size": SMALL}]
    config = {"mediaType": "config", "digest": "sha256:c", "size": 1}
    (tmp_path / "manifest").write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": layers}))
    (tmp_path / "images").write_text("[]")
    paths = {name: tmp_path / name for name in ("manifest", "log", "images")}
    (tmp_path / "log").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "buildah").write_text(SCRIPT.format(**paths))
    (tmp_path / "bin" / "buildah").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


def export(folder: Path, held: set[str]) -> tuple[Path, list[str]]:
    out = folder / "out"
    out.mkdir()
    layout = Buildah().export(IMAGE, out, held)
    return layout, (folder / "log").read_text().split()


def test_a_held_layer_is_stood_for_by_a_file_of_its_size_without_content(folder: Path) -> None:
    layout, pushed = export(folder, {"sha256:aa"})
    stand_in = layout / "blobs" / "sha256" / "aa"
    assert pushed == ["oci"]
    assert stand_in.stat().st_size == BIG
    assert stand_in.stat().st_blocks == 0
    assert not (layout / "blobs" / "sha256" / "bb").exists()


def test_when_a_big_layer_is_missing_the_image_is_written_whole_as_a_readable_layout(folder: Path) -> None:
    layout, pushed = export(folder, {"sha256:bb"})
    assert pushed == ["dir"]
    with archive.opened(layout) as image:
        assert image.name == IMAGE
        assert image.blobs["sha256:aa"].size == BIG


def test_only_the_newest_builds_of_an_image_are_kept(folder: Path) -> None:
    listed: list[dict[str, Any]] = [
        {"createdatraw": f"2026-01-0{day}T00:00:00Z", "names": [f"localhost/modelyard/sample:{day}"]}
        for day in (2, 5, 1, 4, 3)
    ]
    others = [
        {"createdatraw": "2025", "names": ["localhost/modelyard/sampler:1"]},
        {"createdatraw": "2025", "names": None},
    ]
    (folder / "images").write_text(json.dumps([*listed, *others]))
    Buildah().discard_old(Recipe("sample", "Dockerfile", "lock", ()))
    removed = [line.rpartition(" ")[2] for line in (folder / "log").read_text().splitlines()]
    assert removed == ["localhost/modelyard/sample:2", "localhost/modelyard/sample:1"]


def test_a_failed_build_shows_the_end_of_its_output(folder: Path) -> None:
    with pytest.raises(ClusterError, match="the reason"):
        builders.follow(["sh", "-c", "echo the reason; exit 3"], folder)


def test_without_docker_and_buildah_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setattr(prerequisites, "find", lambda _: None)
    with pytest.raises(ClusterError, match=r"install these first .*: buildah"):
        choose_builder()


def test_a_build_that_hangs_is_ended_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(builders, "BUILD", 0.5)
    with pytest.raises(ClusterError, match=r"not done after 0 s .*:\nSTEP 3"):
        builders.follow(["sh", "-c", "echo STEP 3; exec sleep 60"], tmp_path)
