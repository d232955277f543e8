"""Callers that mean no good: connections on which a request never comes to its end."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from tests.e2e.serving import Endpoint

_HEAD = b"POST /v2/models/%b/infer HTTP/1.1\r\nHost: slow\r\nX-Padding: "
_SECONDS = 0.5  # between two bytes


class SlowCallers:
    """So many connections, each sending a head byte by byte, and another one whenever one is ended.

    `ended`: how many the gateways ended, which they say by 408.
    """

    def __init__(self, endpoint: Endpoint, count: int) -> None:
        self.ended = 0
        self._endpoint, self._count = endpoint, count
        self._open: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._fill()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for connection in self._open:
            connection.close()

    def _fill(self) -> None:
        while len(self._open) < self._count:
            connection = socket.create_connection((self._endpoint.host, self._endpoint.port), timeout=5)
            connection.sendall(_HEAD % self._endpoint.model.encode())
            connection.setblocking(False)
            self._open.append(connection)

    def _run(self) -> None:
        while not self._stop.wait(_SECONDS):
            for connection in list(self._open):
                try:
                    connection.sendall(b"x")
                    said = connection.recv(4096)
                except BlockingIOError:
                    continue  # nothing is said yet
                except OSError:
                    said = b""
                self.ended += said.startswith(b"HTTP/1.1 408")
                self._open.remove(connection)
                connection.close()
            with contextlib.suppress(OSError):  # a gateway that goes refuses them; the next round tries again
                self._fill()
