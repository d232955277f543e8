"""Certificates, keys and kubeconfigs of one cluster, made with openssl (P-256, ten years)."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import List

from .plan import Cluster
from .shell import run

NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
CLIENTS = {
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "proxy": "/CN=system:kube-proxy",
    "coredns": "/CN=system:coredns",
    "provisioner": "/CN=modelyard:provisioner",
}


def ensure(cluster: Cluster) -> None:
    """Make all certificates, unless they are there; a start killed half-way leaves none."""
    if cluster.pki.exists():
        return
    partial = cluster.pki.with_name("pki.new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    before = os.umask(0o077)
    try:
        _make_all(cluster, partial)
    finally:
        os.umask(before)
    partial.rename(cluster.pki)


def serving_names(cluster: Cluster) -> str:
    """Return the names and addresses under which the API server is reached."""
    service = "kubernetes.default.svc.cluster.local".split(".")
    names = [".".join(service[:length]) for length in (1, 2, 3, 5)] + ["localhost"]
    addresses = ["127.0.0.1", cluster.loopback, cluster.node_address, cluster.api_service_address]
    return ",".join([f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses])


def _make_all(cluster: Cluster, pki: Path) -> None:
    for authority in ("ca", "front-proxy-ca"):
        run(["openssl", "req", "-x509", *NEW_KEY, "-days", "3650", "-subj", f"/CN={cluster.name}-{authority}",
             "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,digitalSignature",
             "-keyout", pki / f"{authority}.key", "-out", pki / f"{authority}.crt"])  # fmt: skip
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", pki / "sa.key"])
    run(["openssl", "pkey", "-in", pki / "sa.key", "-pubout", "-out", pki / "sa.pub"])
    node = f"/O=system:nodes/CN=system:node:{cluster.node_name}"
    _sign(pki, "apiserver", "/CN=kube-apiserver", ["serverAuth"], serving_names(cluster))
    _sign(pki, "kubelet-server", node, ["serverAuth"], f"DNS:{cluster.node_name},IP:{cluster.node_address}")
    _sign(pki, "apiserver-kubelet-client", "/O=system:masters/CN=apiserver-kubelet-client", ["clientAuth"])
    _sign(pki, "front-proxy-client", "/CN=front-proxy-client", ["clientAuth"], authority="front-proxy-ca")
    for name, subject in {**CLIENTS, "kubelet": node, "admin": "/O=system:masters/CN=admin"}.items():
        _sign(pki, name, subject, ["clientAuth"])
        (pki / f"{name}.kubeconfig").write_text(kubeconfig(cluster, pki, name))


def _sign(pki: Path, name: str, subject: str, usage: List[str], names: str = "", authority: str = "ca") -> None:
    extensions = pki / f"{name}.ext"
    lines = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={','.join(usage)}"]
    extensions.write_text("\n".join([*lines, f"subjectAltName={names}" if names else ""]))
    request = run(["openssl", "req", "-new", *NEW_KEY, "-keyout", pki / f"{name}.key", "-subj", subject])
    run(["openssl", "x509", "-req", "-CA", pki / f"{authority}.crt", "-CAkey", pki / f"{authority}.key",
         "-CAcreateserial", "-days", "3650", "-out", pki / f"{name}.crt", "-extfile", extensions],
        stdin=request)  # fmt: skip
    extensions.unlink()


def kubeconfig(cluster: Cluster, pki: Path, client: str) -> str:
    """Return a kubeconfig, complete in itself, for one of the clients."""
    ca, certificate, key = (
        base64.b64encode((pki / name).read_bytes()).decode() for name in ("ca.crt", f"{client}.crt", f"{client}.key")
    )
    name = f"modelyard-{cluster.name}"
    return (
        "apiVersion: v1\nkind: Config\n"
        f'clusters: [{{name: {name}, cluster: {{server: "{cluster.server}", certificate-authority-data: {ca}}}}}]\n'
        f"users: [{{name: {name}, user: {{client-certificate-data: {certificate}, client-key-data: {key}}}}}]\n"
        f"contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]\ncurrent-context: {name}\n"
    )
