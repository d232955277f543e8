"""The port that is not for callers: health, metrics and load."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from modelyard.contract.gateway import GatewayReport

from modelyard_gateway.telemetry.load import News
from modelyard_gateway.telemetry.metrics import Metrics

_LONGEST_WAIT = 300.0  # seconds


class Admin:
    """`report()` is the load now; `why_unready()` None while requests are taken."""

    def __init__(
        self,
        report: Callable[[], GatewayReport],
        news: News,
        metrics: Metrics,
        why_unready: Callable[[], str | None],
    ) -> None:
        self._report = report
        self._news = news
        self._metrics = metrics
        self._why_unready = why_unready

    def make_app(self) -> web.Application:
        """All its paths."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._tell_alive),
                web.get("/readyz", self._tell_ready),
                web.get("/metrics", self._tell_metrics),
                web.get("/v1/load", self._tell_load),
            ]
        )
        return app

    async def _tell_alive(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _tell_ready(self, request: web.Request) -> web.Response:
        why = self._why_unready()
        return web.Response(text="ok") if why is None else web.Response(text=why, status=503)

    async def _tell_metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _tell_load(self, request: web.Request) -> web.Response:
        """With If-None-Match and `Prefer: wait=<s>` (RFC 7240) it is held back until there is news, else 304.

        Who doesn't wait gets the figures, which change all the time.
        """
        wait = read_wait(request.headers.get("Prefer", ""))
        news = not wait or await self._news.wait(request.headers.get("If-None-Match"), wait)
        headers = {"ETag": self._news.tag(), "Cache-Control": "no-store"}
        if not news:
            return web.Response(status=304, headers=headers)
        body = self._report().model_dump_json(by_alias=True)
        return web.Response(text=body, content_type="application/json", headers=headers)


def read_wait(preference: str) -> float:
    """Seconds of `wait=<s>` among the preferences; 0 where there is none."""
    for part in preference.replace(";", ",").split(","):
        name, _, value = part.strip().lower().partition("=")
        if name.strip() == "wait" and value.strip().isdecimal():
            return min(float(value), _LONGEST_WAIT)
    return 0.0
