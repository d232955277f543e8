"""Both ends of a gateway that is measured, as cheap as they can be, so that they are not what is measured.

`upstream PORT` answers everything with the same bytes, below /slow after a second. `clients PORT NUMBER SECONDS`
asks in a closed loop and prints what it saw as JSON; `hold PORT NUMBER` keeps that many connections, asks once on each
at every line of its input, and prints how many right answers came.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from array import array
from typing import cast

import uvloop

BODY = b'{"label":"positive","score":0.987654321,"index":0}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
SENT = b"x" * 120


def encode(path: bytes, more: bytes = b"") -> bytes:
    """A request."""
    fields = b"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(SENT)
    return b"POST %b HTTP/1.1\r\n%b%b\r\n%b" % (path, fields, more, SENT)


class Upstream(asyncio.Protocol):
    """Takes what ends with the body that all requests have for a whole request, which holds for these."""

    def __init__(self) -> None:
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        self._got += data
        if self._got.endswith(SENT):
            slow = self._got.startswith(b"POST /slow")
            self._got = b""
            if slow:
                asyncio.get_running_loop().call_later(1.0, self._transport.write, ANSWER)
            else:
                self._transport.write(ANSWER)


class Client(asyncio.Protocol):
    """Asks, and asks again when it has its answer. `anew`: each request has an id of its own, as traced ones have."""

    count = 0

    def __init__(self, seen: array[float], errors: list[str], anew: bool) -> None:
        self._seen, self._errors, self._anew = seen, errors, anew
        self._got = b""
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes = b"") -> None:
        """Sends a request."""
        if not request:
            Client.count += 1
            request = encode(
                b"/v2/models/m/infer", b"X-Request-Id: %016d\r\n" % Client.count if self._anew else b""
            )
        self._begun = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        self._got += data
        if not self._got.endswith(BODY):
            return
        self._seen.append(time.perf_counter() - self._begun)
        if not self._got.startswith(b"HTTP/1.1 200 "):
            self._errors.append(self._got.decode(errors="replace")[:100])
        self._got = b""
        if not self.stopped:
            self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        """Of asyncio.Protocol."""
        if not self.stopped:
            self._errors.append(f"closed: {error}")


async def serve(port: int) -> None:
    """Until it is killed."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


async def connect(port: int, number: int, seen: array[float], errors: list[str], anew: bool) -> list[Client]:
    """Connections, one after the other."""
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(number):
        _, client = await loop.create_connection(lambda: Client(seen, errors, anew), "127.0.0.1", port)
        made.append(client)
    return made


async def press(port: int, number: int, seconds: float, anew: bool) -> None:
    """The closed loop."""
    seen, errors = array("d"), list[str]()
    clients = await connect(port, number, seen, errors, anew)
    for client in clients:
        client.ask()
    await asyncio.sleep(min(0.5, seconds))  # what is new at the begin is not counted
    del seen[:]
    begun = time.perf_counter()
    await asyncio.sleep(seconds)
    passed = time.perf_counter() - begun
    latencies = sorted(seen)
    for client in clients:
        client.stopped = True
        client.transport.abort()
    print(json.dumps(describe(latencies, passed) | {"errors": errors}))


def describe(latencies: list[float], passed: float) -> dict[str, float]:
    """Of sorted latencies, in seconds; percentiles by nearest rank, 0 where nothing was answered."""

    def percentile(percent: int) -> float:
        return latencies[math.ceil(len(latencies) * percent / 100) - 1] * 1e3 if latencies else 0.0

    return {
        "requests": len(latencies),
        "per_s": len(latencies) / passed,
        "p50_ms": percentile(50),
        "p99_ms": percentile(99),
    }


async def hold(port: int, number: int) -> None:
    """Idle connections, and a request of a second on each whenever a line comes."""
    seen, errors = array("d"), list[str]()
    clients = await connect(port, number, seen, errors, False)
    print("held", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        del seen[:]
        for client in clients:
            client.stopped = True  # after one answer
            client.ask(encode(b"/slow"))
        async with asyncio.timeout(30):
            while len(seen) < number:  # noqa: ASYNC110 - two thousand events would cost more
                await asyncio.sleep(0.05)
        print(len(seen) - len(errors), flush=True)


def main() -> None:
    """See the module."""
    what, port, *rest = sys.argv[1:]
    if what == "upstream":
        uvloop.run(serve(int(port)))
    elif what == "clients":
        uvloop.run(press(int(port), int(rest[0]), float(rest[1]), "anew" in rest))
    else:
        uvloop.run(hold(int(port), int(rest[0])))


if __name__ == "__main__":
    main()
