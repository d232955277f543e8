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


@pytest.mark.parametrize(
    ("engine", "task"),
    [("builtin", None), ("auto", "text-classification"), ("auto", None), ("vllm", None), ("custom", None)],
)
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
    rig: Rig, engine: str, task: str | None, method: str, path: str, known: int
) -> None:
    async def scenario() -> None:
        async with rig.gateway(engine=engine) as (gateway,):
            gateway.process.take({"r1": Target(100, 0, frozenset(), task or "")})
            tag = gateway.process.news.tag()
            answer = await gateway.ask(path=path, method=method)
            assert answer.status == (known if engine == "builtin" or task else 503)
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
        async with rig.gateway(engine="builtin") as (gateway,):
            gateway.serve()
            tag = gateway.process.news.tag()
            answer = await gateway.ask(path=path, method=method)
            assert (answer.status, answer.fields.get("allow")) == (status, allowed)
            assert gateway.process.news.tag() == tag
            assert gateway.process.metrics.count_failed() == 0

    run(scenario())


@pytest.mark.parametrize(
    ("engine", "path"),
    [
        ("builtin", "/v1/embeddings"),
        ("builtin", "/v2/models/m/infer"),
        ("builtin", "/v2/models/m/versions/r1/infer"),
        ("custom", "/predict"),
    ],
)
def test_what_a_server_may_answer_waits_for_one(rig: Rig, engine: str, path: str) -> None:
    async def scenario() -> None:
        async with rig.gateway(engine=engine) as (gateway,):
            gateway.serve()
            (await gateway.call()).send(encode(path=path))
            await gateway.until(lambda: gateway.load == (1, 0))

    run(scenario())


@pytest.mark.parametrize("engine", ["builtin", "vllm", "custom"])
@pytest.mark.parametrize(
    "path", ["/metrics", "/metrics?a=b", "/metrics/", "/metricsx", "/%6detrics", "//metrics", "/a/../metrics"]
)
def test_metrics_of_one_server_are_nobodys_from_outside(rig: Rig, engine: str, path: str) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"figures"), engine=engine) as (gateway, server):
            for method in ("GET", "POST"):
                answer = await gateway.ask(path=path, method=method)
                assert answer.status == 404
                assert "scrape the pods" in answer.json()["error"]["message"]
            assert not server.got

    run(scenario())


@pytest.mark.parametrize("engine", ["builtin", "custom"])
def test_with_a_server_it_answers_what_the_gateway_does_not_know_better(rig: Rig, engine: str) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"own"), engine=engine) as (gateway, server):
            assert (await gateway.ask(path="/v2/models/m", method="GET")).body == b"own"
            assert (await gateway.ask(path="/health", method="GET")).status == (
                404 if engine == "builtin" else 200
            )
            assert len(server.got) == (1 if engine == "builtin" else 2)

    run(scenario())


def test_a_preflight_is_held_as_the_request_after_it_would_be(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(engine="vllm") as (gateway,):
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
        async with rig.gateway(reply(b"go"), engine="vllm", keys=True, rate_limit=limit) as (gateway, server):
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
        async with rig.gateway(reply(), engine="builtin", keys=True) as (gateway, server):
            assert (await gateway.ask(**ask, fields=_PREFLIGHT)).status == 401  # it would be told 405
            assert not server.got

    run(scenario())


@pytest.mark.parametrize(
    ("protocol", "path", "foreign"),
    [
        ("openai", "/v2/models/m/infer", True),
        ("openai", "/v2/models/m/versions/1/infer", True),
        ("openai", "/v1/chat/completions", False),
        ("openai", "/tokenize", False),
        ("oip", "/v1/embeddings", True),
        ("oip", "/v2/models/m/infer", False),
        (None, "/v2/models/m/infer", False),
        (None, "/v1/completions", False),
    ],
)
def test_what_the_servers_do_not_speak_asks_and_wakes_none(
    rig: Rig, protocol: str | None, path: str, foreign: bool
) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"{}"), engine="custom", protocol=protocol) as (gateway, server):
            answer = await gateway.ask(path=path, method="POST")
            assert answer.status == (404 if foreign else 200)
            assert ("engine.custom.protocol" in answer.body.decode()) == foreign
            assert len(server.got) == (not foreign)
        async with rig.gateway(engine="custom", protocol=protocol) as (gateway,):
            tag = gateway.process.news.tag()
            asked = asyncio.create_task(gateway.ask(path=path, method="POST"))
            await asyncio.wait([asked], timeout=0.3)
            assert asked.done() == foreign
            assert (gateway.process.news.tag() == tag) == foreign
            asked.cancel()
            await asyncio.wait([asked])

    run(scenario())


def test_the_paths_that_the_gateway_knows_are_those_of_the_built_in_server() -> None:
    config = GatewayConfig(name="m", namespace="ns", deployment="d", engine="builtin")
    routes, read = Routes(config, Fleet(), lambda: None, dict), Reader()
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
