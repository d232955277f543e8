"""A server of the user's own whose answers take as long as the test says, and how it is deployed."""

from __future__ import annotations

from typing import Any

# A second for each request, whatever the machine does, and as much of a processor as is asked for.
_PROGRAM = """
import json, os, signal, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORK = float(os.environ.get("WORK_SECONDS", "0"))
ANSWER = {"model_name": "sleepy", "outputs": [{"name": "label", "datatype": "BYTES", "shape": [1], "data": ["late"]}]}

class Sleepy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"ready": True})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(1)
        until = time.thread_time() + WORK
        while time.thread_time() < until:
            pass
        self.answer(ANSWER)

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words):
        pass

# The first process of a container ignores what it has no handler for. What runs is done in that time.
signal.signal(signal.SIGTERM, lambda *_: threading.Timer(3, os._exit, [0]).start())
ThreadingHTTPServer(("", 9000), Sleepy).serve_forever()
"""


def sleepy_spec(image: str, model: str, claim: str, work: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Of a ModelDeployment, behind one gateway. image: any with Python; model: its URI, which nobody reads; claim: for
    its storage; work: seconds of a processor for each answer; `changes` replace top-level fields.
    """
    custom = {
        "image": image, "command": ["python3", "-c", _PROGRAM], "port": 9000, "protocol": "oip",
        "readinessPath": "/ready", "env": [{"name": "WORK_SECONDS", "value": str(work)}],
    }  # fmt: skip
    size = {"limits": {"cpu": "200m", "memory": "600Mi"}, "requests": {"cpu": "20m", "memory": "50Mi"}}
    spec: dict[str, Any] = {
        "model": {"uri": model},
        "task": "text-classification",
        "storage": {"uri": f"pvc://{claim}"},
        "engine": {"type": "custom", "custom": custom},
        "server": {"resources": size},
        "gateway": {"replicas": 1},
    }
    return {**spec, **changes}
