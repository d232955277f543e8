"""A program on this machine as an API of the cluster, as its own pods would be: certificates, Service, APIService."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.cluster.shell import run
from tests.e2e.harness import Kube

NAMESPACE = "autoscalers"


def make_certificates(folder: Path, service: str) -> None:
    """ca.crt, tls.crt and tls.key for a Service of that name, good for both ends of a connection."""
    names = f"DNS:{service}.{NAMESPACE}.svc,DNS:localhost,IP:127.0.0.1"
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    run([
        "openssl", "req", "-x509", *new_key, "-subj", "/CN=autoscalers",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,digitalSignature",
        "-keyout", folder / "ca.key", "-out", folder / "ca.crt",
    ])  # fmt: skip
    run([
        "openssl", "req", "-x509", *new_key, "-subj", f"/CN={service}", "-addext", f"subjectAltName={names}",
        "-addext", "extendedKeyUsage=serverAuth,clientAuth", "-addext", "basicConstraints=critical,CA:FALSE",
        "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key",
        "-keyout", folder / "tls.key", "-out", folder / "tls.crt",
    ])  # fmt: skip


@contextlib.contextmanager
def provides(kube: Kube, group: str, version: str, port: int, service: str, folder: Path) -> Iterator[None]:
    """The API server asks that port of the node for the API, until the end of the block."""
    name = f"{version}.{group}"
    (node,) = kube.find("nodes")
    address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    meta = {"name": service, "namespace": NAMESPACE}
    there = replace(kube, namespace=NAMESPACE)
    slice_meta = {**meta, "labels": {"kubernetes.io/service-name": service}}
    there.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 443, "name": "https"}]}},
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": slice_meta,
            "addressType": "IPv4", "ports": [{"name": "https", "port": port}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"name": service, "namespace": NAMESPACE, "port": 443},
                "caBundle": base64.b64encode((folder / "ca.crt").read_bytes()).decode(),
            },
        },
    )  # fmt: skip
    try:
        kube.run("wait", "apiservice", name, "--for=condition=Available", "--timeout=90s")
        yield
    finally:
        # An API that nobody answers for stops namespaces from going.
        kube.run("delete", "apiservice", name)
        kube.run("delete", "namespace", NAMESPACE, "--wait=false")


@contextlib.contextmanager
def running(command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """The program, until the end of the block. Raises AssertionError with its last words where it ended before."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), stdout=output, stderr=output, env={**os.environ, **environment}
        )
        try:
            yield
            assert process.poll() is None, "it has ended"
        except BaseException as error:
            error.add_note(f"{command[0]}: {log.read_text()[-3000:]}")
            raise
        finally:
            process.terminate()
            process.wait(20)
