"""An API server that has more to delete than it can in a minute: lists in pages, refuses calls that are too big."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.bench import server as bench
from tests.bench.removal import BENCH, JOBS, LABEL, OWNED

# What the real one manages within its minute, scaled down with everything else.
MOST_PER_CALL = 250


class SlowServer:
    """TrainingJobs by name, each with a Job and a pod; these go only after a while, as the garbage collector works.

    `trouble(method, path)` may give a status to answer instead; `done_anyway`: the request is carried out all the
    same, as when a server's own time ran out.
    """

    def __init__(self, run: str, count: int, collect_after: int = 3) -> None:
        self.jobs = {f"{run}-{index:05d}": run for index in range(count)}
        self.children = {path: set(self.jobs) for path in OWNED[:2]}
        self.collect_after = collect_after
        self.requests: list[tuple[str, str]] = []
        self.trouble: Callable[[str, str], int | None] = lambda method, path: None
        self.done_anyway = False
        self.headers: dict[str, str] = {}
        self.stuck: set[str] = set()
        self.busy = self.most_busy = 0

    async def handle(self, request: web.Request) -> web.Response:
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        await asyncio.sleep(0)
        try:
            return self._answer(request)
        finally:
            self.busy -= 1

    def _answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path))
        status = self.trouble(request.method, request.path)
        if status is None:
            return self._carry_out(request)
        if self.done_anyway:
            self._carry_out(request)
        return web.json_response(status_object(status), status=status, headers=self.headers)

    def _carry_out(self, request: web.Request) -> web.Response:
        path, query = request.path, request.query
        if request.method == "GET":
            if path != JOBS:
                self._collect()
            return self._list(path, query)
        assert request.method == "DELETE"
        if path == JOBS:
            chosen = self._selected(JOBS, query)[: int(query.get("limit", 1 << 30))]
            for name in chosen[:MOST_PER_CALL]:
                del self.jobs[name]
            return self._timeout() if len(chosen) > MOST_PER_CALL else web.json_response({"kind": "Status"})
        name = path.removeprefix(JOBS + "/")
        if name not in self.jobs:
            return web.json_response(status_object(404), status=404)
        if name not in self.stuck:
            del self.jobs[name]
        return web.json_response({"kind": "Status"})

    def _list(self, path: str, query: Any) -> web.Response:
        names = [name for name in self._selected(path, query) if name > query.get("continue", "")]
        page = names[: int(query.get("limit", 1 << 30))]
        if len(page) > MOST_PER_CALL:
            return self._timeout()
        more = {"continue": page[-1]} if len(page) < len(names) else {}
        items = [
            {"metadata": {"name": n}} for n in page
        ] or None  # the real one's empty list of metadata is null
        return web.json_response({"metadata": more, "items": items})

    def _selected(self, path: str, query: Any) -> list[str]:
        if path == JOBS:
            return sorted(n for n, run in self.jobs.items() if query.get("labelSelector") == f"{BENCH}={run}")
        assert query.get("labelSelector") == LABEL
        return sorted(self.children.get(path, ()))

    def _collect(self) -> None:
        self.collect_after -= 1
        if self.collect_after < 0:
            for names in self.children.values():
                names &= set(self.jobs)

    def _timeout(self) -> web.Response:
        return web.json_response(status_object(504), status=504)


def status_object(code: int) -> dict[str, Any]:
    return {
        "kind": "Status",
        "code": code,
        "message": "Timeout: request did not complete" if code == 504 else "",
    }


def use(fake: SlowServer, folder: Path, scenario: Callable[[bench.Server], Awaitable[Any]]) -> Any:
    """Runs a scenario with the bench's client of the fake."""

    async def main() -> Any:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", fake.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with bench.Server(kubeconfig(folder, runner.addresses[0][1])) as client:
                return await scenario(client)
        finally:
            await runner.cleanup()

    return asyncio.run(main())


def kubeconfig(folder: Path, port: int) -> str:
    path = folder / "kubeconfig"
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(json.dumps(content))
    return str(path)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats follow at once."""
    monkeypatch.setattr(bench, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(bench, "LONGEST_DELAY", 0.002)
