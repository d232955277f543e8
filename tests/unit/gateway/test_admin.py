"""The port for those who run it: load as a long poll, health, metrics."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import aiohttp
import pytest
from modelyard.contract.gateway import GatewayReport
from modelyard.observe import http
from modelyard_gateway.admin import read_wait
from modelyard_gateway.telemetry.load import Load
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.gateway.api import Api
from tests.unit.gateway.rig import Gateway, Request, Rig, Upstream, reply, run


async def get(gateway: Gateway, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
    url = f"http://127.0.0.1:{gateway.process.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, response.headers, await response.read()


async def ask_load(gateway: Gateway, tag: str | None = None, wait: float = 0) -> tuple[GatewayReport, str]:
    """As the operator asks, and as it reads the answer."""
    status, headers, body = await get(gateway, "/v1/load", http.ask(wait, tag))
    answer = http.read(status, headers, body)
    assert answer is not None
    assert answer.tag is not None
    return GatewayReport.model_validate(answer.body), answer.tag


def test_the_report_has_what_waits_and_what_runs(rig: Rig) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def hold(request: Request, writer: asyncio.StreamWriter) -> None:
            await gate.wait()
            await reply()(request, writer)

        async with rig.gateway(hold) as (gateway, server):
            gateway.serve(server, concurrency=2)
            asked = asyncio.gather(*(gateway.ask() for _ in range(5)))
            await gateway.until(lambda: gateway.load == (3, 2))
            report, _ = await ask_load(gateway)
            assert (report.queued, report.running, report.weights) == (3, 2, {"r1": 100})
            assert report.idle_seconds == 0
            gate.set()
            await asked
            report, _ = await ask_load(gateway)
            assert (report.queued, report.running) == (0, 0)
            span = report.covered_seconds
            assert math.isclose(report.stable.arrival_rate * span, 5, rel_tol=1e-3)
            assert math.isclose(report.stable.finish_rate * span, 5, rel_tol=1e-3)

    run(scenario())


@pytest.mark.parametrize("trouble", ["refused", "event"])
def test_what_keeps_it_from_following_is_told_at_once_until_it_follows_again(rig: Rig, trouble: str) -> None:
    async def scenario() -> None:
        api = Api()
        if trouble == "refused":
            api.refuse = 403
        else:
            api.watching = b'{"type": "ERROR", "object": {"code": 403, "message": "no"}}\n'
        async with api.serving() as url, rig.gateway(api=url) as (gateway,):
            report, tag = await ask_load(gateway)
            while report.trouble is None:
                report, tag = await ask_load(gateway, tag, wait=30)
            assert report.trouble == "the API server refuses to show EndpointSlices: 403: no"
            held = asyncio.ensure_future(ask_load(gateway, tag, wait=30))
            tries = len(api.asked)
            await gateway.until(lambda: len(api.asked) > tries + 2)
            assert not held.done()  # once is enough
            assert b"modelyard_gateway_follows 0.0\n" in (await get(gateway, "/metrics"))[2]
            api.refuse, api.watching = 0, None
            assert (await held)[0].trouble is None
            assert b"modelyard_gateway_follows 1.0\n" in (await get(gateway, "/metrics"))[2]

    run(scenario())


def test_the_question_is_held_until_a_request_waits_for_a_first_server(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            gateway.serve()
            _, tag = await ask_load(gateway)
            held = asyncio.ensure_future(ask_load(gateway, tag, wait=30))
            await asyncio.sleep(0.1)
            assert not held.done()
            asked = asyncio.ensure_future(gateway.ask())
            report, tag = await held
            assert report.queued == 1
            # The next is held again: a second request that waits is no news.
            held = asyncio.ensure_future(ask_load(gateway, tag, wait=30))
            second = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: gateway.load == (2, 0))
            await asyncio.sleep(0.05)
            assert not held.done()
            server = Upstream(reply())
            await server.start()
            gateway.serve(server, revision="r2")
            report, _ = await held  # other weights are
            assert report.weights == {"r2": 100}
            await asyncio.gather(asked, second)
            server.kill()

    run(scenario())


def test_news_that_the_asker_does_not_know_of_are_told_at_once(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            gateway.serve()
            _, tag = await ask_load(gateway)
            asked = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: gateway.load == (1, 0))
            assert (await ask_load(gateway, tag, wait=30))[0].queued == 1
            assert (await ask_load(gateway, '"of-another.1.1"', wait=30))[0].queued == 1
            asked.cancel()

    run(scenario())


def test_without_news_the_question_is_held_to_the_end_and_answered_that_there_is_none(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            gateway.serve()
            _, tag = await ask_load(gateway)
            begun = asyncio.get_running_loop().time()
            status, headers, _ = await get(gateway, "/v1/load", http.ask(1, tag))
            assert asyncio.get_running_loop().time() - begun >= 0.99
            assert (status, headers["ETag"]) == (304, tag)
            # Who doesn't wait gets the figures, which change all the time.
            before, _ = await ask_load(gateway, tag)
            after, _ = await ask_load(gateway, tag)
            assert after.time > before.time

    run(scenario())


def test_the_first_request_after_none_is_news_and_those_beside_it_are_not(rig: Rig) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def hold(request: Request, writer: asyncio.StreamWriter) -> None:
            await gate.wait()
            await reply()(request, writer)

        async with rig.gateway(hold) as (gateway, server):
            gateway.serve(server)
            _, tag = await ask_load(gateway)
            held = asyncio.ensure_future(ask_load(gateway, tag, wait=30))
            await asyncio.sleep(0.1)
            asked = [asyncio.ensure_future(gateway.ask())]
            _, tag = await held
            held = asyncio.ensure_future(ask_load(gateway, tag, wait=30))
            asked.append(asyncio.ensure_future(gateway.ask()))
            await gateway.until(lambda: gateway.load == (0, 2))
            await asyncio.sleep(0.05)
            assert not held.done()
            gate.set()
            await asyncio.gather(*asked)
            asked = [asyncio.ensure_future(gateway.ask())]
            await held
            await asyncio.gather(*asked)

    run(scenario())


@pytest.mark.parametrize(
    ("preference", "seconds"),
    [
        ("wait=30", 30),
        ("respond-async, wait=5", 5),
        ("WAIT = 7 ; x", 7),
        ("wait=99999", 300),
        ("wait=-1", 0),
        ("", 0),
        ("wait", 0),
    ],
)
def test_a_preference_is_read_as_the_standard_has_it(preference: str, seconds: float) -> None:
    assert read_wait(preference) == seconds


def test_means_are_exact_however_fast_requests_come_and_go() -> None:
    now = [1000.0]
    load = Load(lambda: now[0])
    queued_area = running_area = 0.0
    arrived = 0
    # 40 s of 1 ms: one more waits, it runs, it ends; now and then a long pause.
    for step in range(30_000):
        queued, running = [(1, 0), (-1, 1), (0, -1)][step % 3]
        load.move(now[0], queued, running, int(step % 3 == 0), int(step % 3 == 2))
        arrived += step % 3 == 0
        passed = 1.0 if step % 3000 == 1 else 0.001
        queued_area += load.queued * passed
        running_area += load.running * passed
        now[0] += passed
    report = load.report({})
    span = report.covered_seconds
    assert math.isclose(span, now[0] - 1000.0)
    assert math.isclose(report.stable.queued * span, queued_area, rel_tol=1e-9)
    assert math.isclose(report.stable.running * span, running_area, rel_tol=1e-9)
    assert math.isclose(report.stable.arrival_rate * span, arrived, rel_tol=1e-9)
    now[0] += 7.0
    assert math.isclose(load.report({}).idle_seconds, 7.001, abs_tol=1e-6)


def test_metrics_have_outcomes_by_revision_in_a_form_that_prometheus_reads(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            for _ in range(3):
                await gateway.ask()
            server.handle = reply(b"", 404)
            await gateway.ask()
            await gateway.ask(path="/v1/models", method="GET")
            status, headers, body = await get(gateway, "/metrics")
            assert (status, headers["Content-Type"][:10]) == (200, "text/plain")
            families = {family.name: family for family in text_string_to_metric_families(body.decode())}
            counts = {
                (s.labels["revision"], s.labels["outcome"]): s.value
                for s in families["modelyard_gateway_requests"].samples
            }
            assert counts == {("r1", "ok"): 3, ("r1", "refused"): 1, ("", "ok"): 1}
            buckets = [
                s.value
                for s in families["modelyard_gateway_request_duration_seconds"].samples
                if s.name.endswith("_bucket") and s.labels["revision"] == "r1" and s.labels["outcome"] == "ok"
            ]
            assert buckets == sorted(buckets)
            assert buckets[-1] == 3
            assert families["modelyard_gateway_servers"].samples[0].value == 1
            assert all(name.startswith(("modelyard_gateway_", "process_")) for name in families)
            assert families["process_start_time_seconds"].samples[0].value > 0

    run(scenario())


def test_labels_stay_few_however_many_revisions_come(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            metrics = gateway.process.metrics
            for number in range(500):
                metrics.see(f"r{number}", "ok", 0.1)
            # Those that are gone make room, and what is counted in all doesn't fall.
            assert (metrics.count(), sum(metrics.latencies())) == (500, 500)
            assert metrics.render().count(b"\nmodelyard_gateway_requests_total{") == 32
            assert b'{outcome="ok",revision="r499"} 1.0' in metrics.render().replace(b"_total", b"")
            metrics.followed = [f"r{number}" for number in range(500)]
            for number in range(500):
                metrics.see(f"r{number}", "error", 0.1)
            assert (metrics.count(), metrics.count_failed()) == (1000, 500)
            assert metrics.render().count(b'requests_total{outcome="error",revision="others"} 468.0') == 1

    run(scenario())


def test_health_is_always_good_and_readiness_while_requests_are_taken(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            assert (await get(gateway, "/healthz"))[0] == 200
            status, _, body = await get(gateway, "/readyz")
            assert (status, b"doesn't know yet" in body) == (503, True)
            gateway.serve()
            assert (await get(gateway, "/readyz"))[0] == 200
            gateway.process.front.draining = True
            assert (await get(gateway, "/readyz"))[0] == 503

    run(scenario())
