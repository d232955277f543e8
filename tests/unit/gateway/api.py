"""An API server that has nothing but EndpointSlices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from modelyard_gateway.follow import slices


def make_slice(
    name: str, *hosts: str, revision: str = "r1", weight: str | None = "100", ready: Any = True, port: int = 8080,
    family: str = "IPv4", concurrency: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    told = {slices.DEPLOYMENT_LABEL: "d", slices.REVISION_LABEL: revision}
    if concurrency is not None:
        told[slices.CONCURRENCY_LABEL] = concurrency
    if weight is not None:
        told[slices.WEIGHT_LABEL] = weight
    endpoints = [
        {
            "addresses": [host],
            "conditions": {"ready": ready},
            "targetRef": {"kind": "Pod", "name": f"pod-{host[-1]}-{port}"},
        }
        for host in hosts
    ]
    return {
        "metadata": {"name": name, "labels": told},
        "addressType": family,
        "endpoints": endpoints or None,
        "ports": [{"name": "http", "port": port}] if hosts else None,
    }


class Api:
    """An API server that has only EndpointSlices. `asked`: the queries and tokens of its requests."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.version = 10
        self.oldest = 0  # versions before it are forgotten
        self.tells_late = False  # that they are, in an event instead of the answer's status
        self.asked: list[tuple[dict[str, str], str]] = []
        self.watchers: list[asyncio.Queue[bytes | None]] = []
        self.refuse = 0
        self.watching: int | bytes | None = None  # a status or words that end each watch at once
        self.page = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.asked.append((query, request.headers["Authorization"]))
        if self.refuse:
            return web.json_response({"message": "no"}, status=self.refuse)
        if "watch" not in query:
            return self._list(query)
        if self.watching is not None:
            if isinstance(self.watching, int):
                return web.json_response({"message": "no"}, status=self.watching)
            return web.Response(body=self.watching)
        old = int(query["resourceVersion"]) < self.oldest
        if old and not self.tells_late:
            return web.json_response({"code": 410}, status=410)
        response = web.StreamResponse()
        await response.prepare(request)
        if old:
            await response.write(b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n')
            return response
        events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.watchers.append(events)
        while (event := await events.get()) is not None:
            # In two parts: lines are no packets.
            await response.write(event[:20])
            await asyncio.sleep(0.001)
            await response.write(event[20:])
        return response

    def _list(self, query: dict[str, str]) -> web.Response:
        names = sorted(self.items)
        begin = int(query.get("continue", 0))
        size = self.page or len(names)
        metadata = {"resourceVersion": str(self.version)}
        if begin + size < len(names):
            metadata["continue"] = str(begin + size)
        items = [self.items[name] for name in names[begin : begin + size]]
        return web.json_response({"metadata": metadata, "items": items})

    def put(self, manifest: dict[str, Any], kind: str = "MODIFIED") -> None:
        self.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.version)
        if kind == "DELETED":
            self.items.pop(manifest["metadata"]["name"], None)
        elif kind != "BOOKMARK":
            self.items[manifest["metadata"]["name"]] = manifest
        self.tell({"type": kind, "object": manifest})

    def tell(self, event: Any) -> None:
        for events in self.watchers:
            events.put_nowait(json.dumps(event).encode() + b"\n")

    def hang_up(self) -> None:
        for events in self.watchers:
            events.put_nowait(None)
        self.watchers.clear()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            self.hang_up()
            await runner.cleanup()
