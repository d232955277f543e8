"""The access log: a line of JSON for each request, without bodies, queries and keys."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import orjson

from modelyard_gateway.proxy.exchange import Exchange

LOGGED = 256  # characters of a path

_TOGETHER = 32  # lines written at once


class AccessLog:
    """Lines are written when there are enough of them, and whenever `flush` is called: five times a second."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout.buffer
        self._lines: list[bytes] = []

    def write(self, line: dict[str, Any]) -> None:
        """One line."""
        self._lines.append(orjson.dumps(line, None, orjson.OPT_APPEND_NEWLINE))
        if len(self._lines) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Writes what there is. Nobody who reads it is no reason to stop serving."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            self._stream.write(b"".join(lines))
            self._stream.flush()
        except OSError:
            pass


def describe(exchange: Exchange, address: str, outcome: str, seconds: float, time: float) -> dict[str, Any]:
    """The line of the access log. `time`: Unix seconds of its begin; seconds: until its end."""
    head, server = exchange.head, exchange.server
    line: dict[str, Any] = {
        "time": time,
        "id": exchange.id.decode("ascii"),
        "trace": exchange.trace[3:35].decode("ascii"),
        "address": address,
        "method": head.method,
        "path": head.path[:LOGGED],
        "status": exchange.status,
        "outcome": outcome,
        "bytes": exchange.size,
        "seconds": seconds,
    }
    if server is not None:
        line["server"] = server.name
    revision = exchange.revision if server is None else server.revision
    if revision is not None:
        line["revision"] = revision.name
    if exchange.caller is not None:
        line["caller"] = exchange.caller
    if exchange.cached:
        line["cache"] = exchange.cached
    if exchange.repeats:
        line["repeats"] = exchange.repeats
    return line
