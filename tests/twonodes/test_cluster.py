"""The local cluster itself: what works on one node works on two and between them."""

from __future__ import annotations

from typing import Any

from tests.cluster import versions
from tests.e2e.harness import Kube, restricted_pod
from tests.twonodes.nodes import Nodes

PORT = 8000
SERVE = f"""
import http.server, os
class Node(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["NODE"].encode())
    def log_message(self, *_):
        print("asked", flush=True)
print("serving", flush=True)
http.server.ThreadingHTTPServer(("", {PORT}), Node).serve_forever()
"""
ASK = """
import ssl, sys, urllib.request
for url in sys.argv[1:]:
    context = ssl._create_unverified_context() if url.startswith("https") else None
    print(urllib.request.urlopen(url, timeout=10, context=context).read().decode().replace("\\n", ""))
"""


def web(node: str) -> dict[str, Any]:
    """A pod on a node that answers with the node's name."""
    command = ["python3", "-c", SERVE]
    pod = restricted_pod(
        f"web-{node}", versions.BASE_IMAGE, command, env={"NODE": node}, labels={"app": "web"}
    )
    return {**pod, "spec": {**pod["spec"], "nodeName": node}}


def test_pods_reach_each_other_services_and_the_api_server_from_both_nodes_and_can_be_looked_into(
    kube: Kube, nodes: Nodes
) -> None:
    names = nodes.names()
    assert len(names) == 2
    ports = [{"port": 80, "targetPort": PORT}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    kube.apply(*map(web, names), {**service, "spec": {"selector": {"app": "web"}, "ports": ports}})
    kube.run("wait", "pods", "-l", "app=web", "--for=condition=Ready", "--timeout=60s")
    addresses = {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in kube.find("pods", "app=web")}
    for name in names:
        urls = [f"http://{addresses[other]}:{PORT}" for other in names]
        urls += [f"http://web.{kube.namespace}.svc.cluster.local"] * 30
        urls += ["https://kubernetes.default/version"]
        answers = kube.execute(f"web-{name}", "python3", "-c", ASK, *urls).splitlines()
        assert answers[:2] == names
        assert set(answers[2:-1]) == set(names), "the Service has a pod on each node"
        assert '"gitVersion"' in answers[-1]
        path = f"/api/v1/namespaces/{kube.namespace}/pods/web-{name}:{PORT}/proxy/"
        assert kube.run("get", "--raw", path) == name
        assert "asked" in kube.run("logs", f"web-{name}")
    kube.run("delete", "pod", "-l", "app=web", "--grace-period=1")
    kube.delete("service", "web")
