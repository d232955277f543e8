"""The addresses and folders of a cluster, all derived from its name and its slot."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .shell import ClusterError

SLOTS = 16
MOST_NODES = 9
DEFAULT_NAME = "default"


class _Place(ABC):
    """What a cluster and each of its nodes keep on disk."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """All of it."""

    @property
    def state(self) -> Path:
        """What survives `down` without --wipe: images; etcd and volumes of a cluster."""
        return self.folder / "state"

    @property
    def run(self) -> Path:
        """Pid files, sockets and rendered configuration of what runs."""
        return self.folder / "run"

    @property
    def logs(self) -> Path:
        """One log file a component."""
        return self.folder / "logs"


@dataclass(frozen=True)
class Cluster(_Place):
    """One cluster. Slots keep clusters apart: every address and link name contains the slot.

    Nothing listens outside this machine: the API server's address is on a bridge without ports, and what only the
    control plane itself talks to (etcd has no TLS) is on a loopback address of the cluster's own.
    """

    name: str
    slot: int
    control_plane_only: bool
    node_count: int = 1

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes: none, the machine itself, or several that are numbered from 1."""
        if self.control_plane_only:
            return ()
        numbers = range(1, self.node_count + 1) if self.node_count > 1 else (0,)
        return tuple(Node(self, number) for number in numbers)

    @property
    def shares_machine(self) -> bool:
        """Whether a node of it has this machine's own network, and with that its packet rules."""
        return any(node.namespace is None for node in self.nodes)

    @property
    def folder(self) -> Path:
        """Everything the cluster keeps on disk."""
        return clusters_folder() / self.name

    @property
    def pki(self) -> Path:
        """Keys, certificates and the components' kubeconfigs."""
        return self.folder / "pki"

    @property
    def volumes(self) -> Path:
        """The folders behind dynamically provisioned volumes."""
        return self.state / "volumes"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def link(self) -> str:
        """The bridge that carries the API server's address; link names have at most 15 characters."""
        return f"myard-node{self.slot}"

    @property
    def address(self) -> str:
        """The API server's address, which a node without a number has too."""
        return f"10.201.{self.slot}.1"

    @property
    def loopback(self) -> str:
        """The address for what only this machine itself may reach."""
        return f"127.201.{self.slot}.1"

    @property
    def service_range(self) -> str:
        """The Services' addresses."""
        return f"10.202.{self.slot * 16}.0/20"

    @property
    def api_service_address(self) -> str:
        """The address of the Service kubernetes.default: the first of the range."""
        return f"10.202.{self.slot * 16}.1"

    @property
    def dns_address(self) -> str:
        """The address of the cluster's DNS Service."""
        return f"10.202.{self.slot * 16}.10"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:6443"

    @property
    def etcd_url(self) -> str:
        """etcd's client URL."""
        return f"http://{self.loopback}:2379"


@dataclass(frozen=True)
class Node(_Place):
    """One node. Number 0 is the machine itself; others have a network namespace and a folder of their own."""

    cluster: Cluster
    number: int

    @property
    def suffix(self) -> str:
        """What tells the nodes of one cluster apart in names."""
        return str(self.number or "")

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return f"{self.cluster.name}-node{self.suffix}"

    @property
    def folder(self) -> Path:
        """Everything the node keeps on disk."""
        return self.cluster.folder / f"node{self.number}" if self.number else self.cluster.folder

    @property
    def identity(self) -> str:
        """How kubelet's certificates and kubeconfig are named in the cluster's pki folder."""
        return f"kubelet{self.suffix}"

    @property
    def socket(self) -> Path:
        """containerd's socket."""
        return self.run / "containerd.sock"

    @property
    def namespace(self) -> str | None:
        """The network namespace; None is the machine's own network."""
        return f"myard-{self.cluster.slot}-{self.number}" if self.number else None

    @property
    def uplink(self) -> str:
        """The machine's end of the wire to the namespace."""
        return f"myard-up{self.cluster.slot}-{self.number}"

    @property
    def pod_link(self) -> str:
        """The bridge that pods are plugged into."""
        return f"myard-pods{self.cluster.slot}"

    @property
    def address(self) -> str:
        """The node's address."""
        return f"10.201.{self.cluster.slot}.{1 + self.number}"

    @property
    def loopback(self) -> str:
        """The address for what only the node itself may reach."""
        return f"127.201.{self.cluster.slot}.{1 + self.number}"

    @property
    def pod_range(self) -> str:
        """The pods' addresses."""
        return f"10.200.{self.cluster.slot + SLOTS * self.number}.0/24"

    @property
    def cgroup(self) -> str:
        """The control group that pods live under, so that clean-up touches nobody else's pods."""
        # No cluster's name has a dot.
        return f"modelyard-{self.cluster.name}" + (f".node{self.number}" if self.number else "")


def clusters_folder() -> Path:
    """Return the folder that holds one folder a cluster."""
    return cache.root() / "clusters"


def check_name(name: str) -> str:
    """Return `name` if it can be a cluster's name; raise ClusterError with the rule if not."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,29}", name):
        raise ClusterError(
            f"'{name}' can not be a cluster's name: at most 30 of a-z, 0-9 and '-', a letter first"
        )
    return name


def choose_slot(name: str, taken: Mapping[str, int]) -> int:
    """Return the slot for `name`: the one it has, 0 for the default cluster, else the lowest free one."""
    if name in taken:
        return taken[name]
    if name == DEFAULT_NAME:
        return 0
    free = sorted(set(range(1, SLOTS)) - set(taken.values()))
    if not free:
        raise ClusterError(
            f"all {SLOTS} address ranges are taken by clusters: {', '.join(sorted(taken))}; wipe one"
        )
    return free[0]


def load(name: str) -> Cluster | None:
    """Return the cluster recorded under `name`, or None when there is none."""
    try:
        recorded = json.loads((clusters_folder() / name / "cluster.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ClusterError(f"{clusters_folder() / name / 'cluster.json'} is damaged; remove it") from error
    return Cluster(
        name, int(recorded["slot"]), bool(recorded["control_plane_only"]), int(recorded.get("nodes", 1))
    )


def known() -> list[Cluster]:
    """Return every recorded cluster."""
    found = (load(path.parent.name) for path in sorted(clusters_folder().glob("*/cluster.json")))
    return [cluster for cluster in found if cluster]


def create(name: str, control_plane_only: bool, nodes: int | None = None) -> Cluster:
    """Return the recorded cluster `name`, recording it first if it is new. `nodes` None: as it is, or 1.

    Raises ClusterError when it exists in another form, or when its node would be the machine's second.
    """
    with cache.locked(clusters_folder() / "lock", "choosing addresses"):
        others = [cluster for cluster in known() if cluster.name != name]
        existing = load(name)
        if existing and existing.control_plane_only != control_plane_only:
            mode = "without" if existing.control_plane_only else "with"
            raise ClusterError(f"cluster '{name}' exists {mode} a node; `down --wipe --name {name}` it first")
        if existing and nodes not in (None, existing.node_count):
            raise ClusterError(
                f"cluster '{name}' exists with {existing.node_count} node(s); `down --wipe --name {name}` it first"
            )
        if existing:
            return existing
        slot = choose_slot(name, {c.name: c.slot for c in others})
        cluster = Cluster(name, slot, control_plane_only, nodes or 1)
        owners = [other.name for other in others if other.shares_machine]
        if owners and cluster.shares_machine:
            raise ClusterError(
                f"cluster '{owners[0]}' has this machine's one node (kube-proxy's rules are machine-wide); "
                f"use it, `down --wipe --name {owners[0]}` it, or add --control-plane-only or --nodes 2"
            )
        cluster.folder.mkdir(parents=True, exist_ok=True)
        partial = cluster.folder / "cluster.json.new"
        record = {"slot": slot, "control_plane_only": control_plane_only}
        partial.write_text(json.dumps(record if cluster.node_count == 1 else {**record, "nodes": nodes}))
        partial.replace(cluster.folder / "cluster.json")
        return cluster
