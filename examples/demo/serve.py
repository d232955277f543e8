"""Serves the trained model, and finds an address at which this machine reaches it."""

from __future__ import annotations

import http.client
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.demo import report
from examples.demo.shell import ROOT, DemoError, Kubectl

DEPLOYMENT = "sentiment"
MANIFEST = ROOT / "examples" / "sentiment" / "modeldeployment.yaml"
# Seconds in which a Service's port is open on the node.
PATIENCE = 30
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Endpoint:
    """Where the model answers. `clients`: requests at once that keep two servers busy and let none of them wait."""

    host: str
    port: int
    clients: int

    @property
    def path(self) -> str:
        """Of the Open Inference Protocol."""
        return f"/v2/models/{DEPLOYMENT}/infer"

    def curl(self, text: str) -> str:
        """The request as a shell takes it."""
        url = f"http://{self.host}:{self.port}{self.path}"
        return f"curl -s {url} -d {shlex.quote(build_request(text))}"


def serve(kube: Kubectl) -> Endpoint:
    """Deploys the model; returns once it answers. Raises DemoError."""
    kube("apply", "--server-side", "-f", str(MANIFEST))
    kube.watch(f"md/{DEPLOYMENT}")
    found = kube.get("modeldeployment", DEPLOYMENT) or {}
    status = found.get("status") or {}
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or []):
        raise DemoError(report.format_stuck(DEPLOYMENT, kube.namespace, kube.kubeconfig))
    endpoint = Endpoint(*expose(kube), clients=count_clients(status))
    wait_answer(endpoint, PATIENCE)
    return endpoint


def count_clients(status: Mapping[str, Any]) -> int:
    """Twice what the build found one server to be best with."""
    compression = status.get("compression") or {}
    for variant in compression.get("variants") or []:
        if variant["name"] == compression["chosen"] and variant.get("concurrency"):
            return 2 * round(float(variant["concurrency"]))
    return 16


def expose(kube: Kubectl) -> tuple[str, int]:
    """Opens a port of the node for the gateways. What the pods' network need not be, a node is: reachable from here."""
    selector = {
        "modelyard.dev/modeldeployment": DEPLOYMENT,
        "app.kubernetes.io/component": "gateway",
    }
    spec = {"type": "NodePort", "selector": selector, "ports": [{"port": 80, "targetPort": "http"}]}
    name = f"{DEPLOYMENT}-outside"
    kube.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    port = kube("get", "service", name, "-o", "jsonpath={.spec.ports[0].nodePort}")
    path = '{.items[0].status.addresses[?(@.type=="InternalIP")].address}'
    # A node of two families has two.
    address = kube("get", "nodes", "-o", f"jsonpath={path}").split()[0]
    return address, int(port)


def build_request(*texts: str) -> str:
    """A request of the Open Inference Protocol, as JSON."""
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return json.dumps({"inputs": [tensor]})


def ask(connection: http.client.HTTPConnection, path: str, text: str) -> str:
    """The label of one text. Raises OSError or HTTPException where there is no answer, ValueError for another one."""
    connection.request("POST", path, build_request(text), HEADERS)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != http.HTTPStatus.OK:
        raise ValueError(f"{answer.status}: {said.decode(errors='replace')[:200]}")
    (label,) = next(o["data"] for o in json.loads(said)["outputs"] if o["name"] == "label")
    return str(label)


def wait_answer(endpoint: Endpoint, patience: float) -> None:
    """Until the model answers at this address, which is a moment after the Service. Raises DemoError."""
    deadline = time.monotonic() + patience
    while True:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=patience)
        try:
            ask(connection, endpoint.path, "hello")
            return
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the model is served, but this machine does not reach it at the node's address "
                    f"{endpoint.host}:{endpoint.port} ({error}). Does a firewall or VPN keep it away? "
                    f"kubectl port-forward service/{DEPLOYMENT} 8080:80 is another way to it"
                ) from error
            time.sleep(0.5)
        finally:
            connection.close()
