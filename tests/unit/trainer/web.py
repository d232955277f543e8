"""A small web server: files with ETags and ranges, wanted faults, and a hub's download API."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class WebServer:
    """Serves `files` (path to bytes) on 127.0.0.1 and remembers every request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[
            str, list[Any]
        ] = {}  # per path: a status to answer, or ("cut", n) to end after n bytes
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.models: dict[str, tuple[str, dict[str, bytes]]] = {}  # repository to (commit, files)
        self.damaged: dict[str, list[bytes]] = {}  # per path: what is sent in place of the file, by turns
        self.ignores_if_range = False
        self.date: str | None = None  # in place of ETags
        self.shift = 0  # bytes by which a range begins earlier than was asked for
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.owner = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Root address, without a slash at its end."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def find(self, path: str) -> tuple[bytes | None, dict[str, str]]:
        """The body and headers of a path; a hub's answers are made up here."""
        if path in self.files:
            return self.files[path], {}
        for name, (commit, files) in self.models.items():
            if path in (
                f"/api/models/{name}",
                f"/api/models/{name}/revision/main",
                f"/api/models/{name}/revision/{commit}",
            ):
                siblings = [{"rfilename": f, "size": len(b)} for f, b in files.items()]
                about = {"id": name, "sha": commit, "siblings": siblings, "private": False}
                return json.dumps(about).encode(), {"Content-Type": "application/json"}
            if path.startswith(f"/api/models/{name}/tree/"):
                return json.dumps(list(map(_describe, files.items()))).encode(), {
                    "Content-Type": "application/json"
                }
            prefix = f"/{name}/resolve/{commit}/"
            if path.startswith(prefix) and path.removeprefix(prefix) in files:
                return files[path.removeprefix(prefix)], {"X-Repo-Commit": commit}
        return None, {"X-Error-Code": "RepoNotFound"} if path.startswith("/api/") else {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def _serve(self, body: bool) -> None:
        owner: WebServer = self.server.owner  # type: ignore[attr-defined]
        path = self.path.partition("?")[0]
        owner.requests.append((self.command, path, self.headers.get("Range")))
        faults = owner.faults.get(path, [])
        fault = faults.pop(0) if faults and body else None
        data, headers = owner.find(path)
        if isinstance(fault, int) or data is None:
            self._answer(fault if isinstance(fault, int) else 404, b"", headers, body)
            return
        etag = f'"{_hash(data)}"'
        headers |= {"Last-Modified": owner.date} if owner.date else {"ETag": etag}
        headers["Accept-Ranges"] = "bytes"
        if self.headers.get("If-None-Match") == etag:
            self._answer(304, b"", headers, body)
            return
        status, wanted = 200, self.headers.get("Range")
        if owner.damaged.get(path):
            data = owner.damaged[path].pop(0) if body else owner.damaged[path][0]
        if wanted and (owner.ignores_if_range or self.headers.get("If-Range", etag) == etag):
            start = max(0, int(wanted.removeprefix("bytes=").partition("-")[0]) - owner.shift)
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        self._answer(status, data, headers, body, fault[1] if isinstance(fault, tuple) else None)

    def _answer(
        self, status: int, data: bytes, headers: dict[str, str], body: bool, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[:cut])
        if cut is not None:
            self.close_connection = True


def _describe(file: tuple[str, bytes]) -> dict[str, Any]:
    """A file as a hub lists it: by git's hash of it, or of what stands for it where git-lfs keeps it."""
    path, data = file
    told: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
    if path.endswith((".safetensors", ".bin")):
        told["lfs"] = {"oid": _hash(data), "size": len(data), "pointerSize": 130}
        data = b"version https://git-lfs.github.com/spec/v1\n"
    return told | {"oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}  # noqa: S324


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
