"""KEDA: its operator, and the API by which a HorizontalPodAutoscaler asks for what KEDA knows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.harness import Kube
from tests.server.running import free_port
from tests.soak.autoscalers import aggregated, building

MODULE, VERSION = "github.com/kedacore/keda/v2", "v2.21.0"
PROGRAMS = {"keda-operator": "./cmd/operator", "keda-adapter": "./cmd/adapter"}
SERVICE = "keda-metrics-apiserver"


@contextlib.contextmanager
def running(kube: Kube, folder: Path) -> Iterator[None]:
    """KEDA in all namespaces, until the end of the block; then its kinds go, too. Its files go into `folder`."""
    programs = building.provide(MODULE, VERSION, PROGRAMS)
    crds = building.source(MODULE, VERSION) / "config" / "crd" / "bases"
    aggregated.make_certificates(folder, SERVICE)
    environment = {
        "KUBECONFIG": kube.kubeconfig, "WATCH_NAMESPACE": "", "KEDA_CLUSTER_OBJECT_NAMESPACE": "kube-system",
        "POD_NAMESPACE": "kube-system",
    }  # fmt: skip
    metrics, probes, service, api, own = (free_port() for _ in range(5))
    operator: list[str | Path] = [
        programs["keda-operator"], f"--cert-dir={folder}", f"--metrics-bind-address=127.0.0.1:{metrics}",
        f"--health-probe-bind-address=127.0.0.1:{probes}", f"--metrics-service-bind-address=127.0.0.1:{service}",
        "--zap-log-level=info",
    ]  # fmt: skip
    adapter: list[str | Path] = [
        programs["keda-adapter"], f"--secure-port={api}", f"--port={own}", f"--cert-dir={folder}",
        f"--tls-cert-file={folder / 'tls.crt'}", f"--tls-private-key-file={folder / 'tls.key'}",
        f"--metrics-service-address=localhost:{service}",
        *(f"--{what}-kubeconfig={kube.kubeconfig}" for what in ("lister", "authentication", "authorization")),
    ]  # fmt: skip
    kube.run("apply", "--server-side", "-f", str(crds))
    try:
        with (
            aggregated.running(operator, environment, folder / "operator.log"),
            aggregated.running(adapter, environment, folder / "adapter.log"),
            aggregated.provides(kube, "external.metrics.k8s.io", "v1beta1", api, SERVICE, folder),
        ):
            try:
                yield
            finally:
                # While KEDA lives, since its finalizer would hold them, and their namespace, for ever.
                kube.run("delete", "scaledobjects", "--all", "--timeout=60s")
    finally:
        kube.run("delete", "-f", str(crds), "--timeout=60s")
