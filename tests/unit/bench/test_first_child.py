"""The watch that stops the clock: its end is an error at once, and a missing child is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.bench.removal import CHILDREN, LABEL
from tests.bench.server import FirstChild, Server, ServerError
from tests.unit.bench.slowserver import kubeconfig


def added(parent: str) -> dict[str, Any]:
    return {"type": "ADDED", "object": {"metadata": {"labels": {LABEL: parent}}}}


def watch(
    folder: Path,
    scenario: Callable[[FirstChild], Awaitable[Any]],
    *events: dict[str, Any],
    stays: bool,
    status: int = 200,
) -> None:
    """Runs a scenario with a watch that tells these events and then stays open or ends."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        reply = web.StreamResponse(status=status)
        await reply.prepare(request)
        for event in events:
            await reply.write(json.dumps(event).encode() + b"\n")
        if stays:
            await asyncio.sleep(20)
        return reply

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            config = kubeconfig(folder, runner.addresses[0][1])
            async with Server(config) as server, FirstChild(server, CHILDREN, LABEL) as child:
                await scenario(child)
        finally:
            await runner.cleanup()

    asyncio.run(main())


def test_children_are_seen_with_the_time_of_the_first(tmp_path: Path) -> None:
    async def scenario(child: FirstChild) -> None:
        await child.wait(["a", "b"], 5)
        assert set(child.first) == {"a", "b"}

    watch(tmp_path, scenario, added("a"), added("a"), added("b"), stays=True)


def test_missing_children_are_counted_and_named(tmp_path: Path) -> None:
    async def scenario(child: FirstChild) -> None:
        with pytest.raises(TimeoutError, match="2 of 3 jobs have no child after 0 s, first b"):
            await child.wait(["a", "b", "c"], 0.3)

    watch(tmp_path, scenario, added("a"), stays=True)


def test_a_watch_that_ends_is_an_error_at_once(tmp_path: Path) -> None:
    async def scenario(child: FirstChild) -> None:
        with pytest.raises(
            RuntimeError, match="the server ended the watch of /apis/batch/v1/namespaces/default/jobs"
        ):
            await child.wait(["a"], 20)

    watch(tmp_path, scenario, stays=False)


def test_a_watch_that_tells_of_an_error_is_one_at_once(tmp_path: Path) -> None:
    async def scenario(child: FirstChild) -> None:
        with pytest.raises(RuntimeError, match="too old resource version"):
            await child.wait(["a"], 20)

    watch(
        tmp_path, scenario, {"type": "ERROR", "object": {"message": "too old resource version"}}, stays=True
    )


def test_a_watch_that_is_refused_never_begins(tmp_path: Path) -> None:
    async def scenario(child: FirstChild) -> None:
        raise AssertionError("the watch began")

    with pytest.raises(ServerError, match="403"):
        watch(tmp_path, scenario, stays=False, status=403)
