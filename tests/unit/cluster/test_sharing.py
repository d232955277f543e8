"""Images that are linked from another node, with containerd's client replaced by one that keeps real folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images, oci, plan, sharing
from tests.cluster.plan import Node
from tests.cluster.shell import ClusterError

NAME = "localhost/app:1"
DIFFS = [oci.digest_of(b"lower"), oci.digest_of(b"upper")]
CONFIG = oci.encode({"rootfs": {"diff_ids": DIFFS}})


class Containerds:
    """Two nodes' stores: content below their state folders, layers in folders, images by name."""

    def __init__(self, peer: Node) -> None:
        self.images: dict[tuple[Node, str], str] = {}
        self.content: dict[Node, set[str]] = {}
        self.layers: dict[tuple[Node, str], Path] = {}
        self.labels: list[str] = []
        self.commands: list[str] = []
        layers = [{"digest": digest} for digest in DIFFS]
        manifest = oci.encode({"config": {"digest": oci.digest_of(CONFIG)}, "layers": layers})
        for blob in (CONFIG, manifest, b"lower", b"upper"):
            path = sharing._blob(peer, oci.digest_of(blob))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
            self.content.setdefault(peer, set()).add(oci.digest_of(blob))
        self.images[peer, NAME] = oci.digest_of(manifest)
        for key, file in zip(sharing.chain(DIFFS), ("lower", "upper"), strict=True):
            self._make(peer, key)
            (self.layers[peer, key] / file).write_text(file)

    def _make(self, node: Node, key: str) -> Path:
        self.layers[node, key] = node.folder / "snapshots" / str(len(self.layers))
        self.layers[node, key].mkdir(parents=True)
        return self.layers[node, key]

    def ctr(self, node: Node, *words: str) -> list[Any]:
        return [node, *words]

    def attempt(self, command: list[Any], seconds: float = 0) -> str | None:
        try:
            return self.run(command)
        except ClusterError:
            return None

    def run(self, command: list[Any]) -> str:
        if command[0] == "cp":
            source, target = Path(str(command[-2]).removesuffix("/.")), Path(command[-1])
            for file in source.iterdir():
                (target / file.name).hardlink_to(file)
            return ""
        if command[0] == "sh":
            command = command[4:]
        node, *words = command
        self.commands.append(" ".join(words[:2]))
        return self._answer(node, words)

    def _answer(self, node: Node, words: list[str]) -> str:
        if words[:2] == ["images", "ls"]:
            found = self.images.get((node, NAME))
            return "REF TYPE DIGEST\n" + (f"{NAME} type {found}\n" if found else "")
        if words[:2] == ["content", "get"]:
            return sharing._blob(node, words[2]).read_text()
        if words[:2] == ["content", "ingest"]:
            assert sharing._blob(node, words[-1]).exists(), "nothing there that could be taken up"
            self.content.setdefault(node, set()).add(words[-1])
            return ""
        if words[:2] == ["snapshots", "info"] and (node, words[2]) not in self.layers:
            raise ClusterError("not found")
        if words[:2] == ["snapshots", "view"]:
            below = [self.layers[node, key] for key in sharing.chain(DIFFS)]
            options = ["lowerdir=" + ":".join(str(path) for path in reversed(below)), "index=off"]
            return json.dumps([{"Type": "overlay", "Source": "overlay", "Options": options}])
        if words[:2] == ["snapshots", "prepare"]:
            mount = {"Type": "bind", "Source": str(self._make(node, words[3])), "Options": ["rw"]}
            return json.dumps([mount])
        if words[:2] == ["snapshots", "commit"]:
            self.layers[node, words[2]] = self.layers.pop((node, words[3]))
        if words[:2] == ["snapshots", "label"]:
            self.labels.append(words[2])
        return ""


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> tuple[Node, Node, Containerds]:
    peer, node = plan.create("two", control_plane_only=False, nodes=2).nodes
    for each in (peer, node):
        each.run.mkdir(parents=True)
        each.socket.touch()
    made = Containerds(peer)
    monkeypatch.setattr(sharing, "run", made.run)
    monkeypatch.setattr(sharing, "attempt", made.attempt)
    monkeypatch.setattr(images, "ctr", made.ctr)
    monkeypatch.setattr(images, "held_content", lambda one: made.content.get(one, set()))
    return peer, node, made


def test_content_and_layers_of_a_peer_are_linked_and_kept_only_until_the_import(
    pair: tuple[Node, Node, Containerds],
) -> None:
    peer, node, made = pair
    with sharing.borrowed(node, NAME):
        wanted = {oci.digest_of(CONFIG), *DIFFS}
        assert made.content[node] == wanted
        for digest in wanted:
            assert sharing._blob(node, digest).samefile(sharing._blob(peer, digest))
        for key, file in zip(sharing.chain(DIFFS), ("lower", "upper"), strict=True):
            assert (made.layers[node, key] / file).samefile(made.layers[peer, key] / file)
        assert made.labels == []
    assert made.labels == sharing.chain(DIFFS)


def test_a_node_that_has_the_image_borrows_nothing(pair: tuple[Node, Node, Containerds]) -> None:
    peer, node, made = pair
    made.images[node, NAME] = made.images[peer, NAME]
    with sharing.borrowed(node, NAME):
        pass
    assert set(made.commands) == {"images ls"}


def test_a_peer_that_is_stopped_is_not_asked(pair: tuple[Node, Node, Containerds]) -> None:
    peer, node, made = pair
    peer.socket.unlink()
    with sharing.borrowed(node, NAME):
        assert made.commands == []


def test_where_no_link_can_be_made_the_import_goes_its_ordinary_way(
    pair: tuple[Node, Node, Containerds], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, node, made = pair

    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    with sharing.borrowed(node, NAME):
        assert made.content.get(node, set()) == set()


def test_the_names_of_layers_are_those_that_the_image_specification_has() -> None:
    assert sharing.chain(["sha256:a"]) == ["sha256:a"]
    assert sharing.chain(["sha256:a", "sha256:b"])[1] == oci.digest_of(b"sha256:a sha256:b")
