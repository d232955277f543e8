"""The machine-wide things a cluster changes, each with its way back: links, kernel settings, packet rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .plan import Cluster, Node
from .shell import attempt, run

NAMESPACES = Path("/run/netns")
WIRE = "uplink"  # the node's end of it
# Routing between pods and Services, and what kubelet sets by itself when it starts.
SETTINGS = ("net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


def ensure_link(cluster: Cluster) -> None:
    """Give the API server its address, on a bridge without ports (not every kernel has the dummy driver)."""
    if attempt(["ip", "link", "show", cluster.link]) is None:
        run(["ip", "link", "add", cluster.link, "type", "bridge"])
    if cluster.address not in run(["ip", "-4", "addr", "show", "dev", cluster.link]):
        run(["ip", "addr", "add", f"{cluster.address}/32", "dev", cluster.link])
    run(["ip", "link", "set", cluster.link, "up"])


def enter(node: Node) -> list[str]:
    """Return what a command begins with that runs in the node's network: nothing where that is the machine's.

    Not `ip netns exec`, which mounts another /sys, without control groups.
    """
    return ["nsenter", f"--net={NAMESPACES / node.namespace}", "--"] if node.namespace else []


def ensure_namespace(node: Node) -> None:
    """Give a node its network, with one wire to this machine, which routes between the nodes."""
    if not node.namespace:
        return
    if not (NAMESPACES / node.namespace).exists():
        run(["ip", "netns", "add", node.namespace])
    inside = ["ip", "-n", node.namespace]
    if attempt(["ip", "link", "show", node.uplink]) is None:
        run(["ip", "link", "add", node.uplink, "type", "veth", "peer", "name", WIRE, "netns", node.namespace])
    server = node.cluster.address
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "addr", "replace", f"{node.address}/32", "dev", WIRE])
    run([*inside, "link", "set", WIRE, "up"])
    run([*inside, "route", "replace", f"{server}/32", "dev", WIRE, "src", node.address])
    run([*inside, "route", "replace", "default", "via", server, "dev", WIRE, "src", node.address])
    run([*enter(node), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    connect(node)


def connect(node: Node) -> None:
    """Plug the node's wire in."""
    run(["ip", "link", "set", node.uplink, "up"])
    source = ["dev", node.uplink, "src", node.cluster.address]
    run(["ip", "route", "replace", f"{node.address}/32", *source])
    run(["ip", "route", "replace", node.pod_range, "via", node.address, *source, "onlink"])


def disconnect(node: Node) -> None:
    """Pull the node's wire out: whoever talks to it gets no answer, not even a refusal."""
    run(["ip", "link", "set", node.uplink, "down"])


def remove_links(cluster: Cluster) -> None:
    """Remove the cluster's bridges and namespaces; pods' links go with their pods."""
    for node in cluster.nodes:
        if node.namespace:
            attempt(["ip", "link", "del", node.uplink])
            attempt(["ip", "netns", "del", node.namespace])
        else:
            attempt(["ip", "link", "del", node.pod_link])
    attempt(["ip", "link", "del", cluster.link])


def save_settings(saved: Path, root: Path = Path("/proc/sys")) -> None:
    """Write the kernel's settings to `saved` unless a start before has done so: those are the true ones."""
    if saved.exists():
        return
    partial = saved.with_name(saved.name + ".new")
    partial.write_text("".join(f"{name}={(root / name).read_text().strip()}\n" for name in SETTINGS))
    partial.replace(saved)


def enable_forwarding(root: Path = Path("/proc/sys")) -> None:
    """Let the kernel route between the pods and everything else."""
    (root / "net/ipv4/ip_forward").write_text("1")


def release_settings(saved: Path, others: Iterable[Path], root: Path = Path("/proc/sys")) -> None:
    """Put the kernel's settings back as they were, once; the last cluster that has changed them does it.

    `others`: where other clusters have saved them. The first that was started has the true ones.
    """
    if not saved.exists():
        return
    held = [other for other in others if other.exists()]
    if held:
        heir = min(held, key=_time_of)
        if _time_of(saved) < _time_of(heir):
            saved.replace(heir)
        else:
            saved.unlink()
        return
    for line in saved.read_text().splitlines():
        name, value = line.split("=", 1)
        (root / name).write_text(value)
    saved.unlink()


def _time_of(path: Path) -> int:
    return path.stat().st_mtime_ns


def remove_packet_rules() -> None:
    """Remove kube-proxy's nftables tables and kubelet's iptables chains."""
    for family in ("ip", "ip6"):
        attempt(["nft", "delete", "table", family, "kube-proxy"])
    for program in ("iptables", "ip6tables"):
        for chain in ("INPUT", "OUTPUT"):
            attempt([program, "-D", chain, "-j", "KUBE-FIREWALL"])
        for table, chain in (
            ("filter", "KUBE-FIREWALL"),
            ("filter", "KUBE-KUBELET-CANARY"),
            ("nat", "KUBE-KUBELET-CANARY"),
            ("mangle", "KUBE-KUBELET-CANARY"),
            ("mangle", "KUBE-IPTABLES-HINT"),
        ):
            attempt([program, "-t", table, "-F", chain])
            attempt([program, "-t", table, "-X", chain])
