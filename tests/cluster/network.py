"""The machine-wide things a cluster changes, each with its way back: links, kernel settings, packet rules."""

from __future__ import annotations

from pathlib import Path

from .plan import Cluster
from .shell import attempt, run

# Routing between pods and Services, and what kubelet sets by itself when it starts.
SETTINGS = ("net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


def ensure_node_link(cluster: Cluster) -> None:
    """Give the node its address, on a bridge without ports (not every kernel has the dummy driver)."""
    if attempt(["ip", "link", "show", cluster.node_link]) is None:
        run(["ip", "link", "add", cluster.node_link, "type", "bridge"])
    if cluster.node_address not in run(["ip", "-4", "addr", "show", "dev", cluster.node_link]):
        run(["ip", "addr", "add", f"{cluster.node_address}/32", "dev", cluster.node_link])
    run(["ip", "link", "set", cluster.node_link, "up"])


def remove_links(cluster: Cluster) -> None:
    """Remove the cluster's bridges; pods' links go with their pods."""
    for link in (cluster.pod_link, cluster.node_link):
        attempt(["ip", "link", "del", link])


def save_settings(saved: Path, root: Path = Path("/proc/sys")) -> None:
    """Write the kernel's settings to `saved` unless a start before has done so: those are the true ones."""
    if saved.exists():
        return
    partial = saved.with_name(saved.name + ".new")
    partial.write_text("".join(f"{name}={(root / name).read_text().strip()}\n" for name in SETTINGS))
    partial.replace(saved)


def enable_forwarding(root: Path = Path("/proc/sys")) -> None:
    """Let the kernel route between the pods' bridge and everything else."""
    (root / "net/ipv4/ip_forward").write_text("1")


def restore_settings(saved: Path, root: Path = Path("/proc/sys")) -> None:
    """Put the kernel's settings back as they were, once."""
    if not saved.exists():
        return
    for line in saved.read_text().splitlines():
        name, value = line.split("=", 1)
        (root / name).write_text(value)
    saved.unlink()


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
