"""What the load generator could do at most on this machine: a server that costs next to nothing.

A server's figures that come near these are the load generator's.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from tests.bench.sections import Rows, Section
from tests.bench.serving.comparison import Contender, Serving, Setting, clients, compare
from tests.bench.serving.load import Open, Target
from tests.bench.serving.processes import ROOT
from tests.bench.serving.protocols import Case, Plain

BODY = b'{"label": "positive", "score": 0.987654321}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
CASES = [
    Case(f"what there is to say, number {number}", {"label": "positive", "score": 0.9877})
    for number in range(100)
]
RATES = (100, 1000)


class _Fixed(asyncio.Protocol):
    """Takes every piece that comes for a whole request: ours are small."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER)  # type: ignore[attr-defined]


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Fixed, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def start() -> Iterator[Serving]:
    """The server, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.serving.ceiling"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Serving(Target("127.0.0.1", int(process.stdout.readline())), process.pid)
        finally:
            process.kill()


def measure(rows: Rows) -> None:
    """Closed loops, and open ones whose latency shows how exactly requests are sent."""
    settings = clients(1, 8, 64, seconds=5) + [
        Setting({"rate": rate}, Open(rate, seconds=5)) for rate in RATES
    ]
    compare(rows, [Contender("fixed answer", start, Plain("/", member="text"), CASES)], settings)


def sections() -> list[Section]:
    """One table."""
    return [Section("load", "The load generator against a server with a fixed answer", 600, measure)]


if __name__ == "__main__":
    uvloop.run(_serve())
