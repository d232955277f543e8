"""Paths that the gateway answers by itself: health, the model's name, also while there is no server, and the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from modelyard import __version__
from modelyard.contract.gateway import GatewayConfig

from modelyard_gateway.balance.servers import Fleet
from modelyard_gateway.page import read_files
from modelyard_gateway.telemetry import metrics as outcomes
from modelyard_gateway.wire.refusal import JSON, Refusal
from modelyard_gateway.wire.request import RequestHead

Answer = tuple[int, bytes, bytes, str]  # status, header lines, body, outcome

_METHODS = ("GET", "HEAD")
_NO_ICON = Refusal(404, "the page has no icon")  # browsers ask for one, which shall wake no server
# Load balancers ask these, and have no key; nor has who first looks at the page.
_OPEN = frozenset(("/v2/health/live", "/v2/health/ready"))


class Routes:
    """No question here wakes a server: whoever only looks shall not pay for one.

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
        self._created = int(time.time())
        model = f"/v2/models/{config.name}"
        self._answers: dict[str, Callable[[], Answer | None]] = {
            "/v1/models": lambda: _json({"object": "list", "data": [self._describe()]}),
            f"/v1/models/{config.name}": lambda: _json(self._describe()),
            "/v2": lambda: _json({"name": "modelyard_gateway", "version": __version__, "extensions": []}),
            "/v2/health/live": lambda: _json({"live": True}),
            "/v2/health/ready": lambda: self._tell_ready({}),
            f"{model}/ready": lambda: self._tell_ready({"name": config.name}),
            model: self._describe_model,
            "/-/status": lambda: _json(status()),
            "/favicon.ico": lambda: (404, JSON, _NO_ICON.body("/"), outcomes.REFUSED),
        }
        pages = read_files()
        self._open = _OPEN | pages.keys()
        for path, (fields, body) in pages.items():
            self._answers[path] = partial(_page, fields, body)

    def is_open(self, head: RequestHead) -> bool:
        """Whether it is answered without a key, and of a suspended deployment too."""
        return head.path in self._open and head.method in _METHODS

    def find(self, head: RequestHead) -> Answer | None:
        """The answer; None for what a server answers."""
        answer = self._answers.get(head.path)
        return answer() if answer is not None and head.method in _METHODS else None

    def _describe(self) -> dict[str, Any]:
        return {"id": self._config.name, "object": "model", "created": self._created, "owned_by": "modelyard"}

    def _describe_model(self) -> Answer | None:
        """Servers know inputs and outputs. While there is none, that much is known."""
        if self._fleet.count_servers():
            return None
        versions = [revision.name for revision in self._fleet.weighted()]
        told = {"name": self._config.name, "versions": versions, "platform": "modelyard"}
        return _json(told | {"inputs": [], "outputs": []})

    def _tell_ready(self, told: dict[str, Any]) -> Answer:
        why = self._why_refusing()
        if why is None:
            return _json(told | {"ready": True})
        return 503, Refusal(503, why, 5).fields(), orjson.dumps({"error": why}), outcomes.UNAVAILABLE


def _json(content: Any) -> Answer:
    return 200, JSON, orjson.dumps(content), outcomes.OK


def _page(fields: bytes, body: bytes) -> Answer:
    return 200, fields, body, outcomes.OK
