"""Whoever only looks (GET, HEAD, OPTIONS) wakes no server: load balancers, browsers and scanners do so all day.

Nor does, where the paths are known, whoever asks for what no server has. Which those are hangs on the revisions that
get requests: while two share them, what either of them takes is sent on.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote

from modelyard_gateway.balance.servers import Fleet
from modelyard_gateway.wire.refusal import Refusal
from modelyard_gateway.wire.request import RequestHead

READS = ("GET", "HEAD")
_LOOKS = (*READS, "OPTIONS")

_OPENAI = r"/v1/(chat/completions|completions|embeddings)"
_OIP = r"/v2/models/{name}(/versions/[^/]+)?/infer"
_POSTS = rf"{_OPENAI}|{_OIP}"
# What servers don't answer, by what they speak.
_FOREIGN = {"vllm": _OIP, "openai": _OIP, "oip": _OPENAI}
_SPOKEN = {
    "vllm": "OpenAI's API (/v1)",
    "openai": "OpenAI's API (/v1), by engine.custom.protocol",
    "oip": "the Open Inference Protocol (/v2), by engine.custom.protocol",
}
# All that our own server has.
_KNOWN = frozenset({"builtin"})
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

    def __init__(self, model: str, fleet: Fleet) -> None:
        self._model = model
        self._fleet = fleet
        name = re.escape(model)
        self._posts = re.compile(_POSTS.format(name=name))
        self._gets = re.compile(_GETS.format(name=name))
        self._foreign = {said: re.compile(paths.format(name=name)) for said, paths in _FOREIGN.items()}

    def is_foreign(self, path: str) -> bool:
        """Whether it is of a protocol that no server with requests speaks."""
        spoken = self._fleet.spoken
        return bool(spoken) and all(
            (foreign := self._foreign.get(said)) is not None and foreign.fullmatch(path) for said in spoken
        )

    def refuse(self, head: RequestHead, own: bool) -> Refusal | None:
        """None where a server is asked. own: the gateway itself has something at this path."""
        if _is_metrics(head.path):
            return _METRICS
        if self.is_foreign(head.path):
            return Refusal(404, f"the model's servers speak {_SPOKEN[max(self._fleet.spoken)]}")
        if self._fleet.spoken == _KNOWN:
            if self._posts.fullmatch(head.path):
                return None if head.method == "POST" else _TAKES_POST
            if not own and not self._gets.fullmatch(head.path):
                return Refusal(404, f"there is nothing at {head.path}; the model's name is {self._model}")
            if head.method not in READS:
                return _TAKES_GET
        elif head.method not in _LOOKS:
            return None
        if self._fleet.count_servers() or is_preflight(head):
            return None
        return _NO_SERVER


def is_preflight(head: RequestHead) -> bool:
    """Whether a browser asks what a page may send. It shows no key with that, and sends nothing."""
    return head.method == "OPTIONS" and head.length == 0 and _PREFLIGHT in head.prefix


def _is_metrics(path: str) -> bool:
    """However it is written: servers decode it, and some shorten it. vLLM takes whatever begins so."""
    return posixpath.normpath("/" + unquote(path).lstrip("/")).startswith("/metrics")
