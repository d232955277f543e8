"""What pods leave on a machine, and its removal: processes, mounts, control groups, links to logs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

from .network import NAMESPACES
from .plan import Cluster, Node
from .shell import ClusterError, attempt, run
from .supervisor import MARK, environment_of, is_shim

CGROUPS = Path("/sys/fs/cgroup")
CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def hierarchies(root: Path = CGROUPS) -> list[Path]:
    """Return the mounted control group trees: one with version 2, one a controller with version 1."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(
        {path.resolve() for path in root.iterdir() if path.is_dir() and (path / "cgroup.procs").exists()}
    )


def ensure_cgroup(node: Node, root: Path = CGROUPS) -> None:
    """Make the group that all pods of a node live under; kubelet refuses to start without it."""
    for tree in hierarchies(root):
        group = tree / node.cgroup
        group.mkdir(exist_ok=True)
        for name in CPUSET_FILES:
            # Version 1 makes this group with no processors at all: nothing could run in it.
            if tree != root and (tree / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((tree / name).read_text())


def kill_pods_and_shims(node: Node) -> None:
    """Kill every process of every pod of a node, and containerd's shims, which outlive containerd by design."""
    deadline = time.monotonic() + 10
    while True:
        pids = _pod_processes(node) | _shims(node)
        if not pids:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"processes of pods do not end, even by SIGKILL: {sorted(pids)}")
        for pid in pids:
            _kill(pid)
        time.sleep(0.05)


def unmount_all(folder: Path) -> None:
    """Take away every mount below a folder; raise ClusterError when one stays."""
    below = mounts_below(folder, Path("/proc/mounts").read_text())
    if below:
        attempt(["umount", "-l", *below])
    left = mounts_below(folder, Path("/proc/mounts").read_text())
    if left:
        raise ClusterError(f"can not unmount {', '.join(left[:3])}: something still uses it")


def mounts_below(folder: Path, table: str) -> list[str]:
    """Return the mount points below `folder` in /proc/mounts' `table`, the innermost first."""
    points = [_unescape(line.split(" ")[1]) for line in table.splitlines() if line]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)


def remove_cgroups(node: Node) -> None:
    """Remove the control groups of a node's pods from the leaves up."""
    for tree in hierarchies():
        for folder, _, _ in os.walk(tree / node.cgroup, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError as error:
                raise ClusterError(f"control group {folder} can not be removed: {error}") from error


def remove_traces(node: Node) -> None:
    """Remove what kubelet, libcni and the shims write outside the node's folder whatever they are told."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(f"{node.folder}/"):
            link.unlink()
    for note in Path("/var/lib/cni/results").glob(f"{node.cgroup}-*"):
        note.unlink()
    Path("/var/lib/kubelet/device-plugins/kubelet.sock").unlink(missing_ok=True)
    _remove_dead_sockets(Path("/run/containerd/s"))
    for folder in (
        "/var/log/containers", "/var/lib/cni/results", "/var/lib/cni", "/run/containerd/s", "/run/containerd",
        "/var/lib/kubelet/device-plugins", "/var/lib/kubelet",
    ):  # fmt: skip
        _remove_if_empty(Path(folder))


def remove_runtime_state(node: Node) -> None:
    """Forget running pods, as a reboot does: kubelet's folder, pod logs, sockets and pods' addresses."""
    for folder in (node.run, node.state / "kubelet", node.state / "pod-logs"):
        shutil.rmtree(folder, ignore_errors=True)


def leftovers(cluster: Cluster) -> list[str]:
    """Return what of a stopped cluster is still on the machine, as sentences; empty is the aim."""
    found = [f"mount {point}" for point in mounts_below(cluster.folder, Path("/proc/mounts").read_text())]
    links = run(["ip", "-o", "link"])
    names = [cluster.link]
    for node in cluster.nodes:
        found += [f"process {pid}" for pid in sorted(_pod_processes(node) | _shims(node))]
        groups = [tree / node.cgroup for tree in hierarchies()]
        found += [f"control group {group}" for group in groups if group.exists()]
        names.append(node.uplink if node.namespace else node.pod_link)
        if node.namespace and (NAMESPACES / node.namespace).exists():
            found.append(f"network namespace {node.namespace}")
    return found + [f"link {name}" for name in names if re.search(rf" {name}[:@]", links)]


def _pod_processes(node: Node) -> set[int]:
    found: set[int] = set()
    for tree in hierarchies():
        for folder, _, _ in os.walk(tree / node.cgroup):
            try:
                found |= {int(word) for word in (Path(folder) / "cgroup.procs").read_text().split()}
            except OSError:
                continue  # the group went away while we were looking
    return found


def _shims(node: Node) -> set[int]:
    mark = f"{node.folder}:containerd"
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid for pid in pids if environment_of(pid).get(MARK) == mark and is_shim(pid)}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)


def _remove_dead_sockets(folder: Path) -> None:
    listening = Path("/proc/net/unix").read_text()
    for socket in folder.glob("*"):
        if str(socket) not in listening:
            socket.unlink()


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return
