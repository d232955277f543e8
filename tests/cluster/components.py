"""How each component of the cluster is started: the control plane, the services, and the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from . import binaries, network, versions
from .plan import Cluster, Node
from .supervisor import Component

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE = ("containerd", "kubelet", "kube-proxy")
SERVICES = ("coredns", "provisioner")
NODE_CONFIGURATIONS = {
    "containerd.toml": "containerd.toml",
    "cni.conflist": "cni/10-pods.conflist",
    "kubelet.yaml": "kubelet.yaml",
    "kube-proxy.yaml": "kube-proxy.yaml",
}
SERVICE_CONFIGURATIONS = ("Corefile", "objects.yaml")
TEMPLATES = Path(__file__).parent / "etc"


def render_configurations(cluster: Cluster) -> None:
    """Write the configuration files of the services and of all nodes below their run folders."""
    cluster.run.mkdir(parents=True, exist_ok=True)
    for name in SERVICE_CONFIGURATIONS:
        (cluster.run / name).write_text(render((TEMPLATES / name).read_text(), service_values(cluster)))
    for node in cluster.nodes:
        (node.run / "cni").mkdir(parents=True, exist_ok=True)
        (node.run / "resolv.conf").write_text("")
        for source, target in NODE_CONFIGURATIONS.items():
            (node.run / target).write_text(render((TEMPLATES / source).read_text(), node_values(node)))


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill a configuration's $names; an unknown one raises KeyError."""
    return Template(template).substitute(values)


def service_values(cluster: Cluster) -> dict[str, object]:
    """Return the names that the services' configurations may use."""
    names = ("pki", "loopback", "address", "dns_address")
    # With one node every volume is where its pods are; with several a volume waits for its first pod's node.
    mode = "WaitForFirstConsumer" if len(cluster.nodes) > 1 else "Immediate"
    return {**{name: getattr(cluster, name) for name in names}, "binding_mode": mode}


def node_values(node: Node) -> dict[str, object]:
    """Return the names that a node's configurations may use."""
    names = (
        "state", "run", "identity", "socket", "loopback", "address", "name", "pod_link", "pod_range", "cgroup",
    )  # fmt: skip
    shared = {name: getattr(node.cluster, name) for name in ("pki", "dns_address")}
    return {**{name: getattr(node, name) for name in names}, **shared, "pause_image": versions.PAUSE_IMAGE}


def control_plane(cluster: Cluster) -> dict[str, Component]:
    """Return etcd, the API server, the controllers and the scheduler."""
    pki = cluster.pki
    peer = f"http://{cluster.loopback}:2380"
    etcd = {
        "name": "default",
        "data-dir": cluster.state / "etcd",
        "listen-client-urls": cluster.etcd_url,
        "advertise-client-urls": cluster.etcd_url,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "quota-backend-bytes": 8 << 30,
        # A cluster for tests: what a power failure may cost is nothing against a disk flush at every write.
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }
    apiserver = {
        "etcd-servers": cluster.etcd_url,
        "bind-address": cluster.address,
        "advertise-address": cluster.address,
        "secure-port": 6443,
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": pki / "sa.pub",
        "service-account-signing-key-file": pki / "sa.key",
        "service-cluster-ip-range": cluster.service_range,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",
        # Without these the controllers complain for ever, and aggregated APIs are impossible.
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki / "front-proxy-client.crt",
        "proxy-client-key-file": pki / "front-proxy-client.key",
    }
    controllers = {
        **_identity(pki / "controller-manager.kubeconfig"),
        "bind-address": cluster.loopback,
        "root-ca-file": pki / "ca.crt",
        "service-account-private-key-file": pki / "sa.key",
        "cluster-signing-cert-file": pki / "ca.crt",
        "cluster-signing-key-file": pki / "ca.key",
        "use-service-account-credentials": "true",
        "service-cluster-ip-range": cluster.service_range,
        "leader-elect": "false",
        # At the default rate the default service account is 5 s late: the controllers' own come first.
        "kube-api-qps": 500,
        "kube-api-burst": 1000,
    }
    if len(cluster.nodes) > 1:
        # A node that is gone is noticed sooner, by a grace of three of its signs of life instead of five.
        controllers["node-monitor-grace-period"] = "30s"
    scheduler = {
        **_identity(pki / "scheduler.kubeconfig"),
        "bind-address": cluster.loopback,
        "leader-elect": "false",
    }
    flags = dict(zip(CONTROL_PLANE, (etcd, apiserver, controllers, scheduler)))  # noqa: B905
    return {name: Component(name, _command(name, values)) for name, values in flags.items()}


def node(node: Node) -> dict[str, Component]:
    """Return what runs a node's pods and connects them, in the node's network."""
    path, pki = {"PATH": binaries.path_variable()}, node.cluster.pki
    configuration = {name: node.run / name for name in NODE_CONFIGURATIONS}
    kubelet = {
        "config": configuration["kubelet.yaml"],
        "kubeconfig": pki / f"{node.identity}.kubeconfig",
        "root-dir": node.state / "kubelet",
        "cert-dir": node.state / "kubelet" / "pki",
        "hostname-override": node.name,
        "node-ip": node.address,
    }
    commands = {
        "containerd": [
            str(binaries.folder() / "containerd"),
            "--config",
            str(configuration["containerd.toml"]),
        ],
        "kubelet": _command("kubelet", kubelet),
        "kube-proxy": _command("kube-proxy", {"config": configuration["kube-proxy.yaml"]}),
    }
    files = ("containerd.toml", "kubelet.yaml", "kube-proxy.yaml")
    return {
        name: Component(name, command, [configuration[file]], path, network.enter(node))
        for (name, command), file in zip(commands.items(), files)  # noqa: B905
    }


def services(cluster: Cluster) -> dict[str, Component]:
    """Return what gives the pods of all nodes names and volumes."""
    corefile = cluster.run / "Corefile"
    provisioner = {"kubeconfig": cluster.pki / "provisioner.kubeconfig", "root": cluster.volumes}
    return {
        "coredns": Component("coredns", _command("coredns", {"conf": corefile}), [corefile]),
        "provisioner": Component("provisioner", _command("provisioner", provisioner)),
    }


def _identity(kubeconfig: Path) -> dict[str, object]:
    return {f"{prefix}kubeconfig": kubeconfig for prefix in ("", "authentication-", "authorization-")}


def _command(component: str, flags: Mapping[str, object]) -> list[str]:
    return [str(binaries.hyperkube()), component, *(f"--{name}={value}" for name, value in flags.items())]
