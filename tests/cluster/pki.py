"""Certificates, keys and kubeconfigs of one cluster, made with openssl (P-256, ten years)."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

from .plan import Cluster, Node
from .shell import run

CURVE = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
NEW_KEY = ["-newkey", "ec", *CURVE[2:], "-nodes"]
TEN_YEARS = ["-days", "3650"]
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
    service = ["kubernetes", "default", "svc", "cluster", "local"]
    names = [".".join(service[:length]) for length in (1, 2, 3, 5)] + ["localhost"]
    addresses = ["127.0.0.1", cluster.loopback, cluster.address, cluster.api_service_address]
    return ",".join([f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses])


def _make_all(cluster: Cluster, pki: Path) -> None:
    for authority in ("ca", "front-proxy-ca"):
        kind = ["-addext", "basicConstraints=critical,CA:TRUE"]
        kind += ["-addext", "keyUsage=critical,keyCertSign,digitalSignature"]
        subject = ["-subj", f"/CN={cluster.name}-{authority}"]
        files = ["-keyout", f"{pki}/{authority}.key", "-out", f"{pki}/{authority}.crt"]
        run(["openssl", "req", "-x509", *NEW_KEY, *TEN_YEARS, *subject, *kind, *files])
    run(["openssl", "genpkey", *CURVE, "-out", pki / "sa.key"])
    run(["openssl", "pkey", "-in", pki / "sa.key", "-pubout", "-out", pki / "sa.pub"])
    _sign(pki, "apiserver", "/CN=kube-apiserver", "serverAuth", serving_names(cluster))
    for node in cluster.nodes:
        names = f"DNS:{node.name},IP:{node.address}"
        _sign(pki, f"{node.identity}-server", _node_subject(node), "serverAuth", names)
    _sign(pki, "apiserver-kubelet-client", "/O=system:masters/CN=apiserver-kubelet-client", "clientAuth")
    _sign(pki, "front-proxy-client", "/CN=front-proxy-client", "clientAuth", authority="front-proxy-ca")
    kubelets = {node.identity: _node_subject(node) for node in cluster.nodes}
    for name, client in {**CLIENTS, **kubelets, "admin": "/O=system:masters/CN=admin"}.items():
        _sign(pki, name, client, "clientAuth")
        (pki / f"{name}.kubeconfig").write_text(kubeconfig(cluster, pki, name))


def _node_subject(node: Node) -> str:
    return f"/O=system:nodes/CN=system:node:{node.name}"


def _sign(pki: Path, name: str, subject: str, usage: str, names: str = "", authority: str = "ca") -> None:
    extensions = pki / f"{name}.ext"
    # The two key identifiers: Python 3.13 and later refuse certificates without them.
    lines = ["basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
    lines += ["subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
    extensions.write_text("\n".join([*lines, f"subjectAltName={names}" if names else ""]))
    request = run(["openssl", "req", "-new", *NEW_KEY, "-keyout", pki / f"{name}.key", "-subj", subject])
    signer = ["-CA", f"{pki}/{authority}.crt", "-CAkey", f"{pki}/{authority}.key", "-CAcreateserial"]
    output = ["-out", f"{pki}/{name}.crt", "-extfile", str(extensions)]
    run(["openssl", "x509", "-req", *signer, *TEN_YEARS, *output], stdin=request)
    extensions.unlink()


def kubeconfig(cluster: Cluster, pki: Path, client: str) -> str:
    """Return a kubeconfig, complete in itself, for one of the clients."""
    ca, certificate, key = (
        base64.b64encode((pki / name).read_bytes()).decode()
        for name in ("ca.crt", f"{client}.crt", f"{client}.key")
    )
    name = f"modelyard-{cluster.name}"
    server = {"server": cluster.server, "certificate-authority-data": ca}
    user = {"client-certificate-data": certificate, "client-key-data": key}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(content, indent=1)  # which is YAML too
