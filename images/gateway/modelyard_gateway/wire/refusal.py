"""How refusals look, in each protocol."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

JSON = b"content-type: application/json\r\n"

# Codes that clients of OpenAI's API know.
_CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    503: "unavailable",
    504: "timeout",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a caller is told instead of an answer. retry_after: in seconds; 0: nothing about that.

    again: False where to ask again is of no use. OpenAI's clients do so by themselves with each 5xx.
    allow: the methods that the path takes.
    """

    status: int
    message: str
    retry_after: int = 0
    again: bool = True
    allow: str = ""

    def fields(self) -> bytes:
        """Header lines."""
        fields = JSON
        if self.retry_after:
            fields += b"retry-after: %d\r\n" % self.retry_after
        if not self.again:
            fields += b"x-should-retry: false\r\n"
        if self.allow:
            fields += b"allow: %b\r\n" % self.allow.encode()
        if self.status == 401:
            fields += b"www-authenticate: Bearer\r\n"
        return fields

    def body(self, path: str) -> bytes:
        """As the protocol has it that the path belongs to: the Open Inference Protocol below /v2, else OpenAI's."""
        return orjson.dumps(self._render(path))

    def _render(self, path: str) -> dict[str, Any]:
        if path == "/v2" or path.startswith("/v2/"):
            return {"error": self.message}
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": None, "code": _CODES.get(self.status)}
        return {"error": error}


def start_line(status: int) -> bytes:
    """The first line of an answer of the gateway's own."""
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
