"""A real Prometheus beside the cluster; it finds its targets as the chart's monitors say."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests import prometheus
from tests.e2e.harness import Kube, Object

# Seconds; and a window that holds several scrapes, as Grafana's $__rate_interval does.
INTERVAL, WINDOW = 2, "20s"
# Keys of a relabeling, as Prometheus has them.
_RULE = {"sourceLabels": "source_labels", "targetLabel": "target_label", "regex": "regex", "action": "action"}


class Prometheus:
    """A running Prometheus, at this URL."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **parameters: str | float) -> Any:
        """`data` of an answer of its API. Raises AssertionError with what it said where it isn't content."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()[:500]}") from error

    def has_data(self, expr: str, start: float, end: float) -> bool:
        """Whether the expression has a value that is a number at any time between two Unix times."""
        result = self.ask("query_range", query=expr, start=start, end=end, step=INTERVAL)["result"]
        return any(not math.isnan(float(value)) for series in result for _, value in series["values"])

    def find_values(self, series: str, label: str, start: float, end: float) -> list[str]:
        """The values of a label of such series."""
        found: list[str] = self.ask(f"label/{label}/values", **{"match[]": series}, start=start, end=end)
        return found


@contextlib.contextmanager
def run(kube: Kube, monitors: Sequence[Object], folder: Path) -> Iterator[Prometheus]:
    """Prometheus with these ServiceMonitors and PodMonitors, until the end of the block; its files go into `folder`.

    Debian's knows no Kubernetes: what the Prometheus operator would have it find is found here.
    """
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{chosen.getsockname()[1]}"
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(_configure(kube, monitors, folder)))
    command = [
        str(prometheus.find("prometheus")), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}", "--log.level=warn",
    ]  # fmt: skip
    log = folder / "log"
    stop = threading.Event()
    finder = threading.Thread(target=_find, args=(kube, monitors, folder, stop))
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        finder.start()
        try:
            deadline = time.monotonic() + 60
            server = Prometheus(f"http://{address}")
            while not _leads(server):
                said = log.read_text()[-2000:]
                assert process.poll() is None, f"Prometheus has ended: {said}"
                assert time.monotonic() < deadline, f"Prometheus has not scraped the operator in 60 s: {said}"
                time.sleep(0.2)
            yield server
        finally:
            stop.set()
            process.terminate()
            finder.join()


def _leads(server: Prometheus) -> bool:
    # It answers with 503 until it has started.
    with contextlib.suppress(OSError, AssertionError):
        return bool(server.ask("query", query="modelyard_leader == 1")["result"])
    return False


def _configure(kube: Kube, monitors: Sequence[Object], folder: Path) -> Object:
    """The way is through the API server's proxy, which leads to pods from wherever the tests run."""
    config = json.loads(kube.run("config", "view", "--raw", "--flatten", "--minify", "-o", "json"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = {}
    for key, data in (
        ("ca_file", cluster["certificate-authority-data"]),
        ("cert_file", user["client-certificate-data"]),
        ("key_file", user["client-key-data"]),
    ):
        path = folder / key
        path.write_bytes(base64.b64decode(data))
        tls[key] = str(path)
    server = urllib.parse.urlsplit(cluster["server"])
    return {
        "global": {"scrape_interval": f"{INTERVAL}s", "scrape_timeout": f"{INTERVAL}s"},
        "scrape_configs": [
            {
                "job_name": _name(monitor, endpoint),
                "scheme": server.scheme,
                "tls_config": tls,
                "file_sd_configs": [{"files": [str(folder / f"{_name(monitor, endpoint)}.json")]}],
                "honor_labels": endpoint.get("honorLabels", False),
                "relabel_configs": [
                    {"target_label": "__address__", "replacement": server.netloc},
                    *(
                        {_RULE[key]: value for key, value in rule.items()}
                        for rule in endpoint.get("relabelings", [])
                    ),
                ],
            }
            for monitor in monitors
            for endpoint in _endpoints(monitor)
        ],
    }


def _name(monitor: Object, endpoint: Object) -> str:
    return f"{monitor['kind']}-{monitor['metadata']['name']}-{endpoint['port']}"


def _endpoints(monitor: Object) -> list[Object]:
    spec = monitor["spec"]
    found: list[Object] = (
        spec["endpoints"] if monitor["kind"] == "ServiceMonitor" else spec["podMetricsEndpoints"]
    )
    return found


def _find(kube: Kube, monitors: Sequence[Object], folder: Path, stop: threading.Event) -> None:
    """Keeps the list of targets of each monitor."""
    wait = 0  # a call is a process; pods take longer than that to start
    while not stop.wait(wait):
        wait = 2
        for monitor, endpoint in ((m, e) for m in monitors for e in _endpoints(m)):
            # A call may fail while a test has the API server busy; the next one is not far.
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                partial = folder / "targets.new"
                partial.write_text(json.dumps(_find_targets(kube, monitor, endpoint)))
                partial.replace(folder / f"{_name(monitor, endpoint)}.json")


def _find_targets(kube: Kube, monitor: Object, endpoint: Object) -> list[Object]:
    kind = "services" if monitor["kind"] == "ServiceMonitor" else "pods"
    selector = _select(monitor["spec"]["selector"])
    items = json.loads(kube.run("get", kind, "-A", "-l", selector, "-o", "json"))["items"]
    found = []
    for item in items:
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        port = endpoint["port"] if kind == "services" else _find_port(item, endpoint["port"])
        if port is not None:
            path = f"/api/v1/namespaces/{namespace}/{kind}/{name}:{port}/proxy{endpoint['path']}"
            labels = {"__metrics_path__": path, "instance": name, "namespace": namespace, kind[:-1]: name}
            for label, value in item["metadata"]["labels"].items():
                labels[f"__meta_kubernetes_{kind[:-1]}_label_" + re.sub(r"\W", "_", label)] = value
            found.append({"targets": [f"{name}.{namespace}"], "labels": labels})
    return found


def _select(selector: Object) -> str:
    """As kubectl has it. Of expressions the chart has only such that name values."""
    asked = [f"{label}={value}" for label, value in selector["matchLabels"].items()]
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        asked.append(f"{expression['key']} in ({','.join(expression['values'])})")
    return ",".join(asked)


def _find_port(pod: Object, name: str) -> int | None:
    """The number of a port of a pod that runs."""
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    running = pod["status"].get("phase") == "Running"
    return next((port["containerPort"] for port in ports if running and port["name"] == name), None)
