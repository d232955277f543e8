"""Both ways to a pod, against a small server: plain questions, and those whose answers are held back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from modelyard.engine.errors import Unavailable
from modelyard.engine.probe import Probe
from modelyard.observe.direct import DirectReader
from modelyard.observe.http import MAX_BYTES
from modelyard.observe.poller import Answer, Reader
from modelyard.observe.proxied import ProxiedReader

Ask = Callable[[Reader, Probe], Any]


class Pod:
    """A pod's HTTP server. `answer` is what it says; it holds that back as it is asked to."""

    def __init__(self) -> None:
        self.body: bytes = b'{"step": 1}'
        self.status = 200
        self.tag: str | None = None
        self.asked: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.headers))
        assert request.path.endswith("/v1/load")
        headers = {"ETag": self.tag} if self.tag else {}
        if self.tag and request.headers.get("If-None-Match") == self.tag:
            return web.Response(status=304, headers=headers)
        response = web.StreamResponse(status=self.status, headers=headers)
        await response.prepare(request)
        for start in range(0, len(self.body), 50_000):  # in pieces, as large answers come
            await response.write(self.body[start : start + 50_000])
            await asyncio.sleep(0.001)
        return response


def use(pod: Pod, way: str, ask: Ask) -> Any:
    """Asks the pod in one of the two ways."""

    async def main() -> Any:
        app = web.Application()
        app.router.add_get("/{path:.*}", pod.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        probe = Probe("load", "ns", "gateway-0", host, port, "/v1/load")
        try:
            if way == "direct":
                async with DirectReader() as reader:
                    return await ask(reader, probe)
            async with aiohttp.ClientSession(f"http://{host}:{port}") as session:

                async def fetch(
                    path: str, resource: str, headers: Mapping[str, str], timeout: float
                ) -> tuple[int, Mapping[str, str], bytes]:
                    assert path == f"/api/v1/namespaces/ns/pods/gateway-0:{port}/proxy/v1/load"
                    async with session.get(path, headers=headers) as response:
                        return response.status, response.headers, await response.read()

                return await ask(ProxiedReader(fetch), probe)
        finally:
            await runner.cleanup()

    return asyncio.run(main())


WAYS = pytest.mark.parametrize("way", ["direct", "proxied"])


@WAYS
def test_a_pods_answer_is_its_json_object(way: str) -> None:
    pod = Pod()
    assert use(pod, way, lambda r, p: r.read(p, 3.0, 0.0, None)) == Answer({"step": 1})
    assert "Prefer" not in pod.asked[0]
    assert "If-None-Match" not in pod.asked[0]


@WAYS
@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b"{}"), (404, b"{}"), (200, b"[1]"), (200, b"{"), (200, b""), (200, b"[" * 100_000),
     (200, b'{"a": "' + b"x" * MAX_BYTES + b'"}')],
)  # fmt: skip
def test_whatever_else_it_says_is_none(way: str, status: int, body: bytes) -> None:
    pod = Pod()
    pod.status, pod.body = status, body
    assert use(pod, way, lambda r, p: r.read(p, 3.0, 0.0, None)) is None


@WAYS
def test_an_answer_that_comes_in_pieces_is_put_together(way: str) -> None:
    pod = Pod()
    pod.body = b'{"a": "' + b"x" * 200_000 + b'"}'
    answer = use(pod, way, lambda r, p: r.read(p, 3.0, 0.0, None))
    assert answer == Answer({"a": "x" * 200_000})


@WAYS
def test_a_tag_goes_back_with_the_wish_to_wait_and_an_answer_that_is_the_same_has_no_body(way: str) -> None:
    pod = Pod()
    pod.tag = '"7"'

    async def ask(reader: Reader, probe: Probe) -> list[Answer | None]:
        first = await reader.read(probe, 3.0, 0.0, None)
        assert first is not None
        same = await reader.read(probe, 23.0, 20.0, first.tag)
        pod.tag = '"8"'
        return [first, same, await reader.read(probe, 23.0, 20.0, first.tag)]

    assert use(pod, way, ask) == [Answer({"step": 1}, '"7"'), Answer(None, '"7"'), Answer({"step": 1}, '"8"')]
    assert [(a.get("Prefer"), a.get("If-None-Match")) for a in pod.asked] == [
        (None, None), ("wait=20", '"7"'), ("wait=20", '"7"'),
    ]  # fmt: skip


def test_a_pod_that_can_not_be_reached_has_no_answer() -> None:
    nobody = Probe("load", "ns", "gateway-0", "127.0.0.1", 1, "/v1/load")

    async def fail(path: str, resource: str, headers: Mapping[str, str], timeout: float) -> Any:
        raise Unavailable("GET: refused")

    async def main() -> list[Answer | None]:
        async with DirectReader() as reader:
            found = [await reader.read(nobody, 1.0, 0.0, None)]
        return [*found, await ProxiedReader(fail).read(nobody, 1.0, 0.0, None)]

    assert asyncio.run(main()) == [None, None]
