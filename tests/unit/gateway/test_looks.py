"""Whoever only looks wakes no server."""

from __future__ import annotations

import asyncio
from unittest.mock import MagicMock

import pytest
from modelyard.contract.gateway import GatewayConfig
from modelyard_gateway.balance.servers import Fleet, Target
from modelyard_gateway.local.routes import Routes
from modelyard_gateway.wire.request import Reader
from modelyard_server.app import Common
from modelyard_server.tasks import TASKS

from tests.unit.gateway.rig import Rig, encode, reply, run
from tests.unit.gateway.test_limits import mount

_PREFLIGHT = "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n"


def known_by(speaks: str, path: str, known: int) -> int:
    """What the built-in server's callers get (`known`); of others only the other protocol's paths are known."""
    foreign = {"vllm": "/infer", "oip": "/v1/chat/completions /v1/embeddings"}.get(speaks)
    if speaks == "builtin":
        return known
    return 404 if foreign and any(path.endswith(end) for end in foreign.split()) else 503


@pytest.mark.parametrize("speaks", ["builtin", "vllm", "oip", ""])
@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/health", 404),
        ("GET", "/robots.txt", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/v2/models/m/stats", 404),
        ("OPTIONS", "/v1/models", 405),
        ("GET", "/v1/chat/completions", 405),
        ("HEAD", "/v1/embeddings", 405),
        ("OPTIONS", "/v2/models/m/versions/r1/infer", 405),
        ("GET", "/v2/models/m/versions/r1/ready", 503),
        ("GET", "/v2/models/m/versions/r1", 503),
    ],
)
def test_at_zero_it_is_answered_and_nobody_is_told(
    rig: Rig, speaks: str, method: str, path: str, known: int
) -> None:
    async def scenario() -> None:
        # Also of text generation, which vLLM or the built-in server may compute.
        async with rig.gateway(speaks=speaks, task="text-generation") as (gateway,):
            tag = gateway.process.news.tag()
            answer = await gateway.ask(path=path, method=method)
            assert answer.status == known_by(speaks, path, known)
            allowed = "GET, HEAD" if path == "/v1/models" else "POST"
            assert answer.fields.get("allow") == (allowed if answer.status == 405 else None)
            assert gateway.process.news.tag() == tag
            assert gateway.process.metrics.count_failed() == 0

    run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("POST", "/wp-login.php", 404, None),
        ("POST", "/", 405, "GET, HEAD"),
        ("POST", "/metrics", 404, None),
        ("POST", "/v2/health/live", 405, "GET, HEAD"),
        ("POST", "/v2/models/m", 405, "GET, HEAD"),
        ("POST", "/v2/models/other/infer", 404, None),
        ("PUT", "/v1/models", 405, "GET, HEAD"),
        ("PUT", "/v1/completions", 405, "POST"),
        ("DELETE", "/v2/models/m/versions/r1/infer", 405, "POST"),
        ("PROPFIND", "/", 405, "GET, HEAD"),
    ],
)
def test_where_the_paths_are_known_nothing_wakes_a_server_that_none_would_answer(
    rig: Rig, method: str, path: str, status: int, allowed: str | None
) -> None:
    async def scenario() -> None:
        async with rig.gateway(speaks="builtin") as (gateway,):
            tag = gateway.process.news.tag()
            answer = await gateway.ask(path=path, method=method)
            assert (answer.status, answer.fields.get("allow")) == (status, allowed)
            assert gateway.process.news.tag() == tag
            assert gateway.process.metrics.count_failed() == 0

    run(scenario())


@pytest.mark.parametrize(
    ("speaks", "path"),
    [
        ("builtin", "/v1/embeddings"),
        ("builtin", "/v2/models/m/infer"),
        ("builtin", "/v2/models/m/versions/r1/infer"),
        ("oip", "/predict"),
        ("vllm", "/tokenize"),
        ("", "/predict"),
    ],
)
def test_what_a_server_may_answer_waits_for_one(rig: Rig, speaks: str, path: str) -> None:
    async def scenario() -> None:
        async with rig.gateway(speaks=speaks) as (gateway,):
            gateway.serve()
            (await gateway.call()).send(encode(path=path))
            await gateway.until(lambda: gateway.load == (1, 0))

    run(scenario())


@pytest.mark.parametrize("speaks", ["builtin", "vllm", "openai", ""])
@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics?a=b", "/metrics/", "/metricsx", "/%6detrics", "//metrics", "/a/../metrics"]
)
def test_metrics_of_one_server_are_nobodys_from_outside(rig: Rig, speaks: str, path: str) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"figures"), speaks=speaks) as (gateway, server):
            for method in ("GET", "POST"):
                answer = await gateway.ask(path=path, method=method)
                assert answer.status == 404
                assert "scrape the pods" in answer.json()["error"]["message"]
            assert not server.got

    run(scenario())


@pytest.mark.parametrize("speaks", ["builtin", "oip"])
def test_with_a_server_it_answers_what_the_gateway_does_not_know_better(rig: Rig, speaks: str) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"own"), speaks=speaks) as (gateway, server):
            assert (await gateway.ask(path="/v2/models/m", method="GET")).body == b"own"
            assert (await gateway.ask(path="/health", method="GET")).status == (
                404 if speaks == "builtin" else 200
            )
            assert len(server.got) == (1 if speaks == "builtin" else 2)

    run(scenario())


def test_a_preflight_is_held_as_the_request_after_it_would_be(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(speaks="vllm") as (gateway,):
            gateway.serve()
            tag = gateway.process.news.tag()
            asked = asyncio.ensure_future(
                gateway.ask(path="/v1/chat/completions", method="OPTIONS", fields=_PREFLIGHT)
            )
            await gateway.until(lambda: gateway.load == (1, 0))
            assert gateway.process.news.tag() != tag
            asked.cancel()

    run(scenario())


def test_a_preflight_has_no_key_and_needs_none_while_there_is_a_server(rig: Rig) -> None:
    async def scenario() -> None:
        mount(rig.folder / "keys", "..v1", alice="a")
        limit = {"requests_per_second": 0.01, "burst": 2, "per": "key"}
        async with rig.gateway(reply(b"go"), speaks="vllm", keys=True, rate_limit=limit) as (gateway, server):
            ask = {"path": "/v1/chat/completions", "method": "OPTIONS"}
            assert (await gateway.ask(**ask)).status == 401
            assert (await gateway.ask(**ask, fields=_PREFLIGHT + "Content-Length: 2\r\n")).status == 401
            assert (await gateway.ask(method="GET", fields=_PREFLIGHT)).status == 401
            assert [(await gateway.ask(**ask, fields=_PREFLIGHT)).status for _ in range(3)] == [200, 200, 429]
            assert len(server.got) == 2
            gateway.serve()
            tag = gateway.process.news.tag()
            assert (await gateway.ask(**ask, fields=_PREFLIGHT)).status == 401
            assert gateway.process.news.tag() == tag
        async with rig.gateway(reply(), speaks="builtin", keys=True) as (gateway, server):
            assert (await gateway.ask(**ask, fields=_PREFLIGHT)).status == 401  # it would be told 405
            assert not server.got

    run(scenario())


@pytest.mark.parametrize(
    ("speaks", "path", "foreign"),
    [
        ("openai", "/v2/models/m/infer", True),
        ("openai", "/v2/models/m/versions/1/infer", True),
        ("openai", "/v1/chat/completions", False),
        ("openai", "/tokenize", False),
        ("vllm", "/v2/models/m/infer", True),
        ("vllm", "/v1/responses", False),
        ("oip", "/v1/embeddings", True),
        ("oip", "/v2/models/m/infer", False),
        ("", "/v2/models/m/infer", False),
        ("", "/v1/completions", False),
    ],
)
def test_what_the_servers_do_not_speak_asks_and_wakes_none(
    rig: Rig, speaks: str, path: str, foreign: bool
) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"{}"), speaks=speaks) as (gateway, server):
            answer = await gateway.ask(path=path, method="POST")
            assert answer.status == (404 if foreign else 200)
            assert ("the model's servers speak" in answer.body.decode()) == foreign
            assert ("engine.custom.protocol" in answer.body.decode()) == (foreign and speaks != "vllm")
            assert len(server.got) == (not foreign)
        async with rig.gateway(speaks=speaks) as (gateway,):
            tag = gateway.process.news.tag()
            asked = asyncio.create_task(gateway.ask(path=path, method="POST"))
            await asyncio.wait([asked], timeout=0.3)
            assert asked.done() == foreign
            assert (gateway.process.news.tag() == tag) == foreign
            asked.cancel()
            await asyncio.wait([asked])

    run(scenario())


def test_while_revisions_share_the_requests_what_either_takes_is_sent_on(rig: Rig) -> None:
    paths = ("/v2/models/m/infer", "/v1/embeddings", "/tokenize")

    async def scenario() -> None:
        async with rig.gateway(reply(b"{}")) as (gateway, server):

            async def ask(**revisions: tuple[int, str]) -> tuple[int, ...]:
                here = frozenset({("127.0.0.1", server.port)})
                gateway.process.take(
                    {
                        name: Target(weight, 0, here, "", speaks)
                        for name, (weight, speaks) in revisions.items()
                    }
                )
                return tuple([(await gateway.ask(path=path)).status for path in paths])

            assert await ask(old=(100, "builtin"), new=(0, "openai")) == (200, 200, 404)
            assert await ask(old=(100, "builtin"), new=(100, "openai")) == (200, 200, 200)
            assert await ask(old=(0, "builtin"), new=(100, "openai")) == (404, 200, 200)
            assert await ask(old=(100, "openai"), new=(100, "vllm")) == (404, 200, 200)
            assert await ask(old=(100, "openai"), new=(100, "oip")) == (200, 200, 200)
            # One of a release before says nothing, and none is none.
            assert await ask(old=(100, ""), new=(100, "builtin")) == (200, 200, 200)
            assert await ask(old=(100, ""), new=(0, "builtin")) == (200, 200, 200)

    run(scenario())


def test_before_there_is_a_revision_nothing_is_known_of_any_path(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            gateway.process.take({})
            (await gateway.call()).send(encode(path="/tokenize"))
            await gateway.until(lambda: gateway.load == (1, 0))

    run(scenario())


def test_the_paths_that_the_gateway_knows_are_those_of_the_built_in_server() -> None:
    config, fleet = GatewayConfig(name="m", namespace="ns", deployment="d"), Fleet()
    fleet.follow({"r1": Target(100, 0, frozenset(), "", "builtin")})
    routes, read = Routes(config, fleet, lambda: None, dict), Reader()
    service = MagicMock()
    served = [
        *Common(service).list_routes(),
        *(r for task in TASKS.values() for r in task.list_routes(service)),
    ]
    statuses = {}
    for route in served:
        path = route.path.format(model="m", version="r1")
        found, posted = (routes.find(read(encode(path=path, method=method))[0]) for method in ("GET", "POST"))
        assert found is not None
        status = posted.answer()[0] if posted is not None else None
        statuses[path] = "GET" in (route.methods or ()), found.answer()[0], status
    assert len(statuses) == 15
    assert statuses.pop("/metrics") == (True, 404, 404)
    assert {(status in (200, 503), posted) for gets, status, posted in statuses.values() if gets} == {
        (True, 405)
    }
    assert {(status, posted) for gets, status, posted in statuses.values() if not gets} == {(405, None)}
