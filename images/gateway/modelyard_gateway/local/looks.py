"""Whoever only looks (GET, HEAD, OPTIONS) wakes no server: load balancers, browsers and scanners do so all day.

Nor does, where the paths are known, whoever asks for what no server has.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

from modelyard.contract.gateway import GatewayConfig

from modelyard_gateway.balance.servers import Fleet
from modelyard_gateway.wire.refusal import Refusal
from modelyard_gateway.wire.request import RequestHead

READS = ("GET", "HEAD")
_LOOKS = (*READS, "OPTIONS")

_OPENAI = r"/v1/(chat/completions|completions|embeddings)"
_OIP = r"/v2/models/{name}(/versions/[^/]+)?/infer"
_POSTS = rf"{_OPENAI}|{_OIP}"
# What servers that speak one of them don't answer.
_FOREIGN = {"openai": _OIP, "oip": _OPENAI}
_SPOKEN = {"openai": "OpenAI's API (/v1)", "oip": "the Open Inference Protocol (/v2)"}
_GETS = r"/v2/models/{name}(/versions/[^/]+(/ready)?)?"
# A browser asks so before a request that will wake a server; without an answer it would never send that.
_PREFLIGHT = b"\r\naccess-control-request-method:"

_NO_SERVER = Refusal(
    503,
    "there is no server at the moment, and only to look starts none; /v2/health/ready tells of the gateway",
    5,
)
_TAKES_POST = Refusal(405, "this path takes POST", allow="POST")
_TAKES_GET = Refusal(405, "this path takes GET", allow="GET, HEAD")
# They would be those of any one server; and whoever may ask a model isn't whoever may see its figures.
_METRICS = Refusal(404, "metrics are not told here: let Prometheus scrape the pods")


class Looks:
    """What is answered to those for whom the gateway has no answer of its own."""

    def __init__(self, config: GatewayConfig, fleet: Fleet) -> None:
        self._config = config
        self._fleet = fleet
        name = re.escape(config.name)
        self._posts = re.compile(_POSTS.format(name=name))
        self._gets = re.compile(_GETS.format(name=name))
        foreign = _FOREIGN.get(config.protocol or "")
        self._foreign = re.compile(foreign.format(name=name)) if foreign else None

    def is_foreign(self, path: str) -> bool:
        """Whether it is of a protocol that the servers don't speak."""
        return self._foreign is not None and self._foreign.fullmatch(path) is not None

    def refuse(self, head: RequestHead, own: bool) -> Refusal | None:
        """None where a server is asked. own: the gateway itself has something at this path."""
        if _is_metrics(head.path):
            return _METRICS
        if self.is_foreign(head.path):
            spoken = _SPOKEN[str(self._config.protocol)]
            return Refusal(404, f"the model's servers speak {spoken} (engine.custom.protocol)")
        if self._knows_paths():
            if self._posts.fullmatch(head.path):
                return None if head.method == "POST" else _TAKES_POST
            if not own and not self._gets.fullmatch(head.path):
                return Refusal(
                    404, f"there is nothing at {head.path}; the model's name is {self._config.name}"
                )
            if head.method not in READS:
                return _TAKES_GET
        elif head.method not in _LOOKS:
            return None
        if self._fleet.count_servers() or is_preflight(head):
            return None
        return _NO_SERVER

    def _knows_paths(self) -> bool:
        """Whether it is our own server that answers: another may stand there for text generation, or by the spec."""
        engine = self._config.engine
        if engine != "auto":
            return engine == "builtin"
        return (self._config.task or self._fleet.task()) not in (None, "text-generation")


def is_preflight(head: RequestHead) -> bool:
    """Whether a browser asks what a page may send. It shows no key with that, and sends nothing."""
    return head.method == "OPTIONS" and head.length == 0 and _PREFLIGHT in head.prefix


def _is_metrics(path: str) -> bool:
    """However it is written: servers decode it, and some shorten it. vLLM takes whatever begins so."""
    return posixpath.normpath("/" + unquote(path).lstrip("/")).startswith("/metrics")
