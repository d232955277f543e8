"""The cluster where Docker runs: kind, with the project's kind-config.yaml."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from . import archive, binaries, cache
from .shell import DOWNLOAD, attempt, find, run, say

CONFIG = Path(__file__).parents[2] / "kind-config.yaml"

# kind's provisioner refuses ReadWriteMany unless told that all nodes share a folder, which one node does.
SHARED_FOLDER = {"nodePathMap": [], "sharedFileSystemPath": "/var/local-path-provisioner"}


def is_available() -> bool:
    """Tell whether kind is on PATH and a Docker engine answers."""
    return (
        find("kind") is not None
        and find("docker") is not None
        and attempt(["docker", "info"], seconds=20) is not None
    )


def cluster_name(name: str) -> str:
    """Return kind's name for a cluster of ours, which keeps it apart from the user's own."""
    return f"modelyard-{name}"


def kubeconfig(name: str) -> Path:
    """Return the kubeconfig's path."""
    return cache.root() / "kind" / f"{name}.kubeconfig"


def exists(name: str) -> bool:
    """Tell whether kind has this cluster."""
    return cluster_name(name) in run(["kind", "get", "clusters"]).split()


def nodes(name: str) -> list[str]:
    """Return the node containers' names."""
    return run(["kind", "get", "nodes", "--name", cluster_name(name)]).split()


def create_command(name: str) -> list[str]:
    """Return the command that makes the cluster and waits until its node is Ready."""
    flags = ["--config", str(CONFIG), "--kubeconfig", str(kubeconfig(name)), "--wait", "120s"]
    return ["kind", "create", "cluster", "--name", cluster_name(name), *flags]


def delete_command(name: str) -> list[str]:
    """Return the command that removes the cluster with everything in it."""
    return ["kind", "delete", "cluster", "--name", cluster_name(name), "--kubeconfig", str(kubeconfig(name))]


def load_command(name: str, path: Path) -> list[str]:
    """Return the command that puts an archive's image into every node."""
    return ["kind", "load", "image-archive", str(path), "--name", cluster_name(name)]


def storage_patch() -> dict[str, object]:
    """Return the change to the provisioner's ConfigMap that allows ReadWriteMany volumes."""
    return {"data": {"config.json": json.dumps(SHARED_FOLDER)}}


def up(name: str) -> None:
    """Make the cluster unless it is there; a creation that was cut short is started over."""
    binaries.ensure_tools()
    kubeconfig(name).parent.mkdir(parents=True, exist_ok=True)
    whole = kubeconfig(name).with_suffix(".whole")
    if exists(name) and not whole.exists():
        run(delete_command(name))
    if not exists(name):
        whole.unlink(missing_ok=True)
        say(f"making the kind cluster {cluster_name(name)}")
        run(create_command(name), seconds=DOWNLOAD)
        run(["docker", "exec", nodes(name)[0], "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf",
             "-n", "local-path-storage", "patch", "configmap", "local-path-config", "--type=merge",
             "-p", json.dumps(storage_patch())])  # fmt: skip
        whole.touch()
    else:
        for node in nodes(name):
            run(["docker", "start", node])
    say(f"cluster '{name}' is up in kind: export KUBECONFIG={kubeconfig(name)}")


def down(name: str, wipe: bool) -> None:
    """Stop the node containers, or with `wipe` remove them."""
    if wipe:
        run(delete_command(name))
        for path in (kubeconfig(name), kubeconfig(name).with_suffix(".whole")):
            path.unlink(missing_ok=True)
    else:
        for node in nodes(name):
            run(["docker", "stop", node])
    say(f"cluster '{name}' is {'gone' if wipe else 'stopped'}")


def load(name: str, path: Path, image: str | None) -> None:
    """Put an image into the cluster; a layout folder or a renamed image is packed into an archive first."""
    if path.is_file() and not image:
        run(load_command(name, path), seconds=DOWNLOAD)
        return
    with tempfile.NamedTemporaryFile(suffix=".tar") as packed:
        with archive.opened(path, image) as content:
            content.write(packed)
        packed.flush()
        run(load_command(name, Path(packed.name)), seconds=DOWNLOAD)
