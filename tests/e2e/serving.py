"""A deployment's gateways as a caller outside of the cluster reaches them, and what callers ask."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any

from tests.bench.serving.background import ConstantLoad
from tests.bench.serving.load import Target
from tests.bench.serving.protocols import Case, OpenInference
from tests.e2e.harness import Kube, ModelDeployment

RATE = 20.0  # requests/s


@dataclass(frozen=True)
class Endpoint:
    """Where the gateways of a deployment are reached from this machine, and by which name its model goes."""

    host: str
    port: int
    model: str

    def call(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and parsed answer of a GET, or of a POST of this JSON."""
        status, _, answer = self.ask(path, body, **headers)
        return status, answer

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Message, Any]:
        """The same with the answer's header fields."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}{path}", data, {"Content-Type": "application/json", **headers}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error.headers, json.loads(error.read() or b"null")

    def classify(self, *texts: str) -> list[str]:
        """The labels of texts. Raises AssertionError for anything but an answer."""
        status, answer = self.call(f"/v2/models/{self.model}/infer", infer(*texts))
        assert status == 200, answer
        found: list[str] = next(o["data"] for o in answer["outputs"] if o["name"] == "label")
        return found

    def load(self, cases: list[Case], rate: float = RATE) -> ConstantLoad:
        """A constant load of requests whose answers are known."""
        return ConstantLoad(Target(self.host, self.port), OpenInference(self.model), cases, rate)

    def learn(self, *texts: str) -> list[Case]:
        """Requests with the answers that are given now."""
        cases = []
        for text in texts:
            status, answer = self.call(f"/v2/models/{self.model}/infer", infer(text))
            assert status == 200, answer
            cases.append(Case(text, {output["name"]: output["data"] for output in answer["outputs"]}))
        return cases


def infer(*texts: str) -> dict[str, Any]:
    """A request of the Open Inference Protocol."""
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}]}


def expose(kube: Kube, deployment: ModelDeployment, node: str | None = None) -> Endpoint:
    """Opens a port of the nodes for the gateways: a node is reached from this machine, the pods' network need not be.

    node: the one by whose address they are asked; any without it.
    """
    name = f"{deployment.name}-outside"
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": kube.namespace},
            "spec": {
                "type": "NodePort",
                "selector": {
                    "modelyard.dev/modeldeployment": deployment.name,
                    "app.kubernetes.io/component": "gateway",
                },
                "ports": [{"port": 80, "targetPort": "http"}],
            },
        }
    )
    found = kube.get("service", name)
    asked = next(n for n in kube.find("nodes") if node in (None, n["metadata"]["name"]))
    assert found is not None
    address = next(a["address"] for a in asked["status"]["addresses"] if a["type"] == "InternalIP")
    return Endpoint(address, int(found["spec"]["ports"][0]["nodePort"]), deployment.name)
