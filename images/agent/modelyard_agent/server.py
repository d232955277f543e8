"""The agent's HTTP endpoints. Everybody in the cluster may read; only this pod's processes write."""

import contextlib
import hmac
import ipaddress
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Optional, Tuple
from urllib.parse import parse_qs, urlsplit

from modelyard_agent import kubeflow
from modelyard_agent.files import encode
from modelyard_agent.progress import Progress
from modelyard_agent.verifier import PENDING, BadRequestError, Verifier

MAX_BODY = 1 << 20
MAX_WAIT_SECONDS = 3600.0
_CHECKPOINT = re.compile(r"/v1/checkpoint/([0-9]{1,15})")
_JSON = "application/json"
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Server:
    """Serves until stopped, in threads: a slow reader delays nobody."""

    def __init__(self, port: int, progress: Progress, verifier: Optional[Verifier], token: str):
        """Binds the port on all interfaces (0 takes a free one). Raises OSError."""
        self.progress = progress
        self.verifier = verifier
        self.token = token
        self._http = _bind(port)
        self._http.agent = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.1,), name="server", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._http.server_address[1])

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no longer."""
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    agent: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is none of the log's business."""


class _DualStackHttp(_Http):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _bind(port: int) -> _Http:
    if socket.has_ipv6:
        with contextlib.suppress(OSError):  # no IPv6 in this kernel
            return _DualStackHttp(("::", port), _Handler)
    return _Http(("0.0.0.0", port), _Handler)  # noqa: S104 - the operator reads it from outside the pod


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    timeout = 30
    server_version = "modelyard-agent"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:
        """The pod's log is the training's."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        checkpoint = _CHECKPOINT.fullmatch(url.path)
        if url.path == "/v1/progress":
            self._reply(200, encode(self.server.agent.progress.snapshot()))
        elif url.path == "/metrics":
            self._reply(200, self.server.agent.progress.render().encode("utf-8"), _TEXT)
        elif url.path == "/healthz":
            self._reply(200, b"ok", _TEXT)
        elif checkpoint and self._is_local():
            self._get_checkpoint(int(checkpoint.group(1)), url.query)
        else:
            self._fail(404, "no such path")

    def do_POST(self) -> None:
        if not self._is_local():
            self._fail(403, "reports are taken from this pod only")
            return
        body = self._read_body()
        if body is None:
            return
        path = urlsplit(self.path).path
        checkpoint = _CHECKPOINT.fullmatch(path)
        if path == "/v1/report":
            self.server.agent.progress.merge(body)
            self._reply(200, b"{}")
        elif path == "/v1/checkpoint":
            self._post_checkpoint(body, None)
        elif checkpoint:
            self._post_checkpoint(body, int(checkpoint.group(1)))
        elif path == kubeflow.PATH:
            self._post_kubeflow(body)
        else:
            self._fail(404, "no such path")

    def _get_checkpoint(self, step: int, query: str) -> None:
        try:
            wait = float(parse_qs(query).get("wait", ["0"])[0])
        except ValueError:
            self._fail(400, "wait must be a number of seconds")
            return
        verifier = self.server.agent.verifier
        answer = verifier.answer(step, min(max(wait, 0.0), MAX_WAIT_SECONDS)) if verifier else None
        if answer is None:
            self._fail(404, "nobody asked to verify the checkpoint of step {}".format(step))
        else:
            self._reply(202 if answer["state"] == PENDING else 200, encode(answer))

    def _post_checkpoint(self, body: Dict[str, Any], step: Optional[int]) -> None:
        verifier = self.server.agent.verifier
        if verifier is None:
            self._fail(404, "this pod has no run folder to keep checkpoints in")
            return
        try:
            if step is None:
                verifier.request(body)
            else:
                verifier.amend(step, body)
        except BadRequestError as error:
            self._fail(400, str(error))
            return
        self._reply(202, encode({"state": PENDING}))

    def _post_kubeflow(self, body: Dict[str, Any]) -> None:
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(
            given.encode("utf-8"), "Bearer {}".format(self.server.agent.token).encode("utf-8")
        ):
            self._fail(401, "wrong token")
            return
        self.server.agent.progress.merge(kubeflow.translate(body))
        self._reply(200, b"{}")

    def _is_local(self) -> bool:
        address = ipaddress.ip_address(self.client_address[0].partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return bool((mapped or address).is_loopback)

    def _read_body(self) -> Optional[Dict[str, Any]]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self._fail(
                413 if length.isdigit() else 411, "a body of up to {} bytes is expected".format(MAX_BODY)
            )
            return None
        try:
            body = json.loads(self.rfile.read(int(length)).decode("utf-8"))
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self._fail(400, "the body must be a JSON object")
            return None
        return body

    def _fail(self, status: int, message: str) -> None:
        self._reply(status, encode({"message": message}))

    def _reply(self, status: int, body: bytes, kind: str = _JSON) -> None:
        headers: Tuple[Tuple[str, str], ...] = (("Content-Type", kind), ("Content-Length", str(len(body))))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
