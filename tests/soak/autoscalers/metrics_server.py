"""Kubernetes' metrics-server: what a HorizontalPodAutoscaler knows of processors and memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.harness import Kube
from tests.server.running import free_port
from tests.soak.autoscalers import aggregated, building

MODULE, VERSION = "sigs.k8s.io/metrics-server", "v0.9.0"
PROGRAMS = {"metrics-server": "./cmd/metrics-server"}
SERVICE = "metrics-server"


@contextlib.contextmanager
def running(kube: Kube, folder: Path) -> Iterator[None]:
    """The API metrics.k8s.io, until the end of the block. Its files go into `folder`."""
    program = building.provide(MODULE, VERSION, PROGRAMS)["metrics-server"]
    aggregated.make_certificates(folder, SERVICE)
    port = free_port()
    command: list[str | Path] = [
        program, f"--secure-port={port}", f"--cert-dir={folder}",
        f"--tls-cert-file={folder / 'tls.crt'}", f"--tls-private-key-file={folder / 'tls.key'}",
        "--kubelet-preferred-address-types=InternalIP", "--kubelet-insecure-tls", "--metric-resolution=15s",
        *(f"--{what}kubeconfig={kube.kubeconfig}" for what in ("", "authentication-", "authorization-")),
    ]  # fmt: skip
    with (
        aggregated.running(command, {}, folder / "metrics-server.log"),
        aggregated.provides(kube, "metrics.k8s.io", "v1beta1", port, SERVICE, folder),
    ):
        yield
