"""Paths that the gateway answers by itself: health, the model's name, also while there is no server, and the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from modelyard import __version__
from modelyard.contract.gateway import GatewayConfig

from modelyard_gateway.balance.servers import Fleet
from modelyard_gateway.local.looks import READS, Looks
from modelyard_gateway.page import read_files
from modelyard_gateway.telemetry import metrics as outcomes
from modelyard_gateway.wire.refusal import JSON, Refusal
from modelyard_gateway.wire.request import RequestHead

Answer = tuple[int, bytes, bytes, str]  # status, header lines, body, outcome

_NO_ICON = Refusal(404, "the page has no icon")  # browsers ask for one, which shall wake no server


@dataclass(frozen=True, slots=True)
class Route:
    """A path that the gateway answers. open: also without a key. idle: only while there is no server to answer it."""

    answer: Callable[[], Answer]
    open: bool = False
    idle: bool = False


class Routes:
    """No question here wakes a server: whoever only looks shall not pay for one. Nor is there a limit to how often one
    looks, and a suspended deployment can be looked at.

    `why_refusing()` is None while requests are taken. A gateway without servers takes them: it holds them until there
    is one.
    """

    def __init__(
        self,
        config: GatewayConfig,
        fleet: Fleet,
        why_refusing: Callable[[], str | None],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._why_refusing = why_refusing
        self._looks = Looks(config.name, fleet)
        self._created = int(time.time())
        model = f"/v2/models/{config.name}"
        # As nearly all are: of these nothing else is looked at.
        self._asked = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", f"{model}/infer"}
        self._routes = {
            "/v1/models": Route(lambda: _json({"object": "list", "data": [self._describe()]})),
            f"/v1/models/{config.name}": Route(lambda: _json(self._describe())),
            "/v2": Route(
                lambda: _json({"name": "modelyard_gateway", "version": __version__, "extensions": []})
            ),
            # Load balancers ask these, and have no key; nor has who first looks at the page.
            "/v2/health/live": Route(lambda: _json({"live": True}), open=True),
            "/v2/health/ready": Route(lambda: self._tell_ready({}), open=True),
            f"{model}/ready": Route(lambda: self._tell_ready({"name": config.name})),
            model: Route(self._describe_model, idle=True),
            "/-/status": Route(lambda: _json(status())),
            "/favicon.ico": Route(lambda: (404, JSON, _NO_ICON.body("/"), outcomes.REFUSED)),
        }
        for path, (fields, body) in read_files().items():
            self._routes[path] = Route(partial(_page, fields, body), open=True)

    def find(self, head: RequestHead) -> Route | None:
        """None for what a server answers."""
        if head.method == "POST" and head.path in self._asked and not self._looks.is_foreign(head.path):
            return None
        route = self._routes.get(head.path)
        if route is not None and head.method in READS and not (route.idle and self._fleet.count_servers()):
            return route
        refusal = self._looks.refuse(head, route is not None)
        return Route(partial(_refuse, refusal, head.path)) if refusal is not None else None

    def _describe(self) -> dict[str, Any]:
        return {"id": self._config.name, "object": "model", "created": self._created, "owned_by": "modelyard"}

    def _describe_model(self) -> Answer:
        """Servers know inputs and outputs. While there is none, that much is known."""
        versions = [revision.name for revision in self._fleet.weighted()]
        told = {"name": self._config.name, "versions": versions, "platform": "modelyard"}
        return _json(told | {"inputs": [], "outputs": []})

    def _tell_ready(self, told: dict[str, Any]) -> Answer:
        why = self._why_refusing()
        if why is None:
            return _json(told | {"ready": True})
        return 503, Refusal(503, why, 5).fields(), orjson.dumps({"error": why}), outcomes.UNREADY


def _json(content: Any) -> Answer:
    return 200, JSON, orjson.dumps(content), outcomes.OK


def _refuse(refusal: Refusal, path: str) -> Answer:
    outcome = outcomes.UNREADY if refusal.status == 503 else outcomes.REFUSED
    return refusal.status, refusal.fields(), refusal.body(path), outcome


def _page(fields: bytes, body: bytes) -> Answer:
    return 200, fields, body, outcomes.OK
