"""`/healthz`, `/readyz` and `/metrics` on one port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from modelyard.telemetry.metrics import Metrics

Check = Callable[[], str | None]


class HealthServer:
    """Serves while the loop lives.

    `alive` and `ready` return None or a sentence on what is wrong; `refresh` brings gauges up to date before
    a scrape.
    """

    def __init__(self, metrics: Metrics, *, alive: Check, ready: Check, refresh: Callable[[], None]) -> None:
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        self._refresh = refresh
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens, and returns the port (a free one for 0). Raises OSError where the port is taken."""
        app = web.Application()
        app.router.add_get("/healthz", self._check_alive)
        app.router.add_get("/readyz", self._check_ready)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _check_alive(self, _: web.Request) -> web.Response:
        return _answer(self._alive())

    async def _check_ready(self, _: web.Request) -> web.Response:
        return _answer(self._ready())

    async def _scrape(self, _: web.Request) -> web.Response:
        self._refresh()
        # A thousand jobs with series of their own take a good part of a second; passes go on meanwhile.
        body = await asyncio.to_thread(self._metrics.render)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})


def _answer(problem: str | None) -> web.Response:
    return web.Response(status=503 if problem else 200, text=(problem or "ok") + "\n")
