"""How each component of the cluster is started: one function for the control plane, one for the node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from . import binaries, versions
from .plan import Cluster
from .supervisor import Component

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
NODE = ("containerd", "kubelet", "kube-proxy", "coredns", "provisioner")
CONFIGURATIONS = {
    "containerd.toml": "containerd.toml",
    "cni.conflist": "cni/10-pods.conflist",
    "kubelet.yaml": "kubelet.yaml",
    "kube-proxy.yaml": "kube-proxy.yaml",
    "Corefile": "Corefile",
    "objects.yaml": "objects.yaml",
}


def render_configurations(cluster: Cluster) -> None:
    """Write the node's configuration files below the cluster's run folder."""
    (cluster.run / "cni").mkdir(parents=True, exist_ok=True)
    (cluster.run / "resolv.conf").write_text("")
    for source, target in CONFIGURATIONS.items():
        template = (Path(__file__).parent / "etc" / source).read_text()
        (cluster.run / target).write_text(render(template, cluster))


def render(template: str, cluster: Cluster) -> str:
    """Fill a configuration's $names; an unknown one raises KeyError."""
    attributes = (
        "state", "run", "pki", "socket", "loopback", "node_address", "node_name", "dns_address", "pod_link",
        "pod_range", "cgroup",
    )  # fmt: skip
    values = {name: str(getattr(cluster, name)) for name in attributes}
    values["pause_image"] = versions.PAUSE_IMAGE
    return Template(template).substitute(values)


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
        "bind-address": cluster.node_address,
        "advertise-address": cluster.node_address,
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
    scheduler = {
        **_identity(pki / "scheduler.kubeconfig"),
        "bind-address": cluster.loopback,
        "leader-elect": "false",
    }
    flags = dict(zip(CONTROL_PLANE, (etcd, apiserver, controllers, scheduler)))  # noqa: B905
    return {name: Component(name, _command(name, values)) for name, values in flags.items()}


def node(cluster: Cluster) -> dict[str, Component]:
    """Return what runs pods, connects them and gives them names and volumes."""
    path = {"PATH": binaries.path_variable()}
    configuration = {name: cluster.run / name for name in CONFIGURATIONS}
    containerd = [str(binaries.folder() / "containerd"), "--config", str(configuration["containerd.toml"])]
    kubelet = {
        "config": configuration["kubelet.yaml"],
        "kubeconfig": cluster.pki / "kubelet.kubeconfig",
        "root-dir": cluster.state / "kubelet",
        "cert-dir": cluster.state / "kubelet" / "pki",
        "hostname-override": cluster.node_name,
        "node-ip": cluster.node_address,
    }
    provisioner = {"kubeconfig": cluster.pki / "provisioner.kubeconfig", "root": cluster.volumes}
    return {
        "containerd": Component("containerd", containerd, [configuration["containerd.toml"]], path),
        "kubelet": Component("kubelet", _command("kubelet", kubelet), [configuration["kubelet.yaml"]], path),
        "kube-proxy": Component(
            "kube-proxy",
            _command("kube-proxy", {"config": configuration["kube-proxy.yaml"]}),
            [configuration["kube-proxy.yaml"]],
            path,
        ),
        "coredns": Component(
            "coredns", _command("coredns", {"conf": configuration["Corefile"]}), [configuration["Corefile"]]
        ),
        "provisioner": Component("provisioner", _command("provisioner", provisioner)),
    }


def _identity(kubeconfig: Path) -> dict[str, object]:
    return {f"{prefix}kubeconfig": kubeconfig for prefix in ("", "authentication-", "authorization-")}


def _command(component: str, flags: Mapping[str, object]) -> list[str]:
    return [str(binaries.hyperkube()), component, *(f"--{name}={value}" for name, value in flags.items())]
