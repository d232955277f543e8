"""The training process's side of the protocol. Nothing here blocks or fails the training."""

import contextlib
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from typing import Any, Dict, List, Optional

_TIMEOUT_SECONDS = 5.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


class Client:
    """Talks to the agent of this pod. Reports are merged and sent by a thread; the newest values win."""

    def __init__(self, port: int):
        self._base = "http://127.0.0.1:{}".format(port)
        self._pending: "queue.Queue[Optional[Dict[str, Any]]]" = queue.Queue(maxsize=256)
        self._thread = threading.Thread(target=self._send_reports, name="agent-reports", daemon=True)
        self._thread.start()

    def report(self, **fields: Any) -> None:
        """Queue a partial ProgressReport (camelCase fields). Returns at once; never fails."""
        try:
            self._pending.put_nowait(fields)
        except queue.Full:
            return

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Send what is queued, for so long at most."""
        try:
            self._pending.put(None, timeout=timeout_seconds)
        except queue.Full:
            return
        self._thread.join(timeout_seconds)

    def request_verification(self, **checkpoint: Any) -> bool:
        """Ask for a checkpoint to be verified: step, path, attempt, worldSize, saveSeconds, metric, value, share.

        True if the agent took it. Answers at once: hashing goes on in the agent.
        """
        return self._call("POST", "/v1/checkpoint", checkpoint, _TIMEOUT_SECONDS) is not None

    def amend_checkpoint(self, step: int, metric: str, value: float) -> bool:
        """Give a checkpoint that was asked to be verified the value of its metric. True if the agent took it."""
        path = "/v1/checkpoint/{}".format(step)
        return self._call("POST", path, {"metric": metric, "value": value}, _TIMEOUT_SECONDS) is not None

    def wait_for_verification(self, step: int, timeout_seconds: float) -> Optional[Dict[str, Any]]:
        """{"state": verified | failed | pending, "checkpoint"?, "message"?}, or None without an answer."""
        deadline = time.monotonic() + timeout_seconds
        answer = None
        while True:
            left = max(0.0, deadline - time.monotonic())
            wait = min(left, 30.0)
            path = "/v1/checkpoint/{}?wait={}".format(step, wait)
            answer = self._call("GET", path, None, wait + _TIMEOUT_SECONDS)
            if left <= 0 or answer is None or answer.get("state") != "pending":
                return answer

    def _send_reports(self) -> None:
        ended = False
        while not ended:
            batch = [self._pending.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._pending.get_nowait())
            ended = None in batch
            report = _merge([fields for fields in batch if fields is not None])
            if report:
                self._call("POST", "/v1/report", report, _TIMEOUT_SECONDS)

    def _call(
        self, method: str, path: str, body: Optional[Dict[str, Any]], timeout: float
    ) -> Optional[Dict[str, Any]]:
        data = None if body is None else json.dumps(body).encode("utf-8")
        url = self._base + path
        request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 - http to loopback
        request.add_header("Content-Type", "application/json")
        try:
            with _DIRECT.open(request, timeout=timeout) as response:
                answer = json.loads(response.read().decode("utf-8") or "{}")
        except (OSError, ValueError, urllib.error.HTTPError):
            return None
        return answer if isinstance(answer, dict) else None


def _merge(reports: List[Dict[str, Any]]) -> Dict[str, Any]:
    merged: Dict[str, Any] = {}
    metrics: Dict[str, Any] = {}
    for report in reports:
        metrics.update(report.get("metrics") or {})
        merged.update(report)
    return dict(merged, metrics=metrics) if metrics else merged
