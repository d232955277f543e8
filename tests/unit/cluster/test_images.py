"""Loading images, with containerd's client replaced by a record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import archive, images, oci
from tests.cluster.plan import Cluster, Node
from tests.cluster.shell import ClusterError

(NODE,) = Cluster("default", 0, False).nodes
NAME = "localhost/app:1"


class Containerd:
    def __init__(self, names: dict[str, str], content: set[str]) -> None:
        self.names, self.content = names, content
        self.sent: list[set[str]] = []
        self.removed: list[str] = []
        self.lost: set[str] = set()

    def run(self, command: list[str]) -> str:
        words = command[5:]
        if words == ["images", "ls"]:
            rows = [f"{name} type {digest} 1MiB" for name, digest in self.names.items()]
            return "\n".join(["REF TYPE DIGEST SIZE", *rows])
        if words[:2] == ["content", "ls"]:
            return "\n".join(self.content)
        if words[:3] == ["images", "rm", "--sync"]:
            self.removed += words[3:]
        return ""

    def stream(self, _: Node, image: archive.Image, held: set[str]) -> int:
        self.sent.append(set(image.blobs) - set(held))
        if self.lost & set(held):
            raise ClusterError("content not found")
        self.names[image.name] = image.digest
        return 0


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    oci.write_layout(tmp_path / "app.oci", oci.Recipe(NAME, tmp_path / "root", {}), "amd64")
    return tmp_path / "app.oci"


def install(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, str], content: set[str] | None = None
) -> Containerd:
    containerd = Containerd(names, content or set())
    monkeypatch.setattr(images, "run", containerd.run)
    monkeypatch.setattr(images, "_stream", containerd.stream)
    return containerd


def digests(layout: Path) -> tuple[str, set[str]]:
    with archive.opened(layout) as image:
        return image.digest, set(image.blobs)


def test_an_image_that_is_there_is_not_sent(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    containerd = install(monkeypatch, {NAME: digests(layout)[0]})
    assert images.load(NODE, layout) == f"{NAME} is loaded already"
    assert containerd.sent == []


def test_only_missing_content_is_sent(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, blobs = digests(layout)
    containerd = install(monkeypatch, {}, blobs - {digest})
    images.load(NODE, layout)
    assert containerd.sent == [{digest}]


def test_everything_is_sent_when_held_content_has_gone_meanwhile(
    layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, blobs = digests(layout)
    containerd = install(monkeypatch, {}, blobs - {digest})
    containerd.lost = blobs - {digest}
    images.load(NODE, layout)
    assert containerd.sent[-1] == blobs


def test_the_image_that_had_the_name_before_is_dropped(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    containerd = install(monkeypatch, {NAME: "sha256:old", "sha256:alias": "sha256:old"})
    images.load(NODE, layout)
    assert containerd.removed == ["sha256:alias"]


def test_an_image_that_still_has_another_name_is_kept(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {NAME: "sha256:old", "sha256:alias": "sha256:old", "localhost/kept:1": "sha256:old"}
    containerd = install(monkeypatch, names)
    images.load(NODE, layout)
    assert containerd.removed == []
