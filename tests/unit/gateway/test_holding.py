"""Requests wait while there is no server or no room, in bounds."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.gateway.rig import Caller, Request, Rig, Upstream, encode, reply, run


@pytest.mark.parametrize("size", [10, 900_000])
def test_requests_wait_for_the_first_server_and_none_is_lost(rig: Rig, size: int) -> None:
    async def scenario() -> None:
        async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
            await reply(request.body)(request, writer)

        async with rig.gateway() as (gateway,):
            gateway.serve()
            bodies = [b"%d" % n * (size // len(b"%d" % n)) for n in range(40)]
            asked = asyncio.gather(*(gateway.ask(body) for body in bodies))
            await gateway.until(lambda: gateway.load == (40, 0))
            server = Upstream(echo)
            await server.start()
            gateway.serve(server, concurrency=3)
            assert [answer.body for answer in await asked] == bodies
            assert gateway.load == (0, 0)
            assert gateway.process.dispatcher.kept == 0
            server.kill()

    run(scenario())


@pytest.mark.parametrize("concurrency", [1, 2])
def test_no_server_gets_more_than_it_takes_and_the_line_is_first_come_first_served(
    rig: Rig, concurrency: int
) -> None:
    async def scenario() -> None:
        most = now = 0

        async def count(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            await reply(request.body)(request, writer)

        async with rig.gateway(count) as (gateway, server):
            gateway.serve(server, concurrency=concurrency)
            gateway.process.fleet.revisions["r1"].servers["127.0.0.1", server.port].limit = 0
            callers = [await gateway.call() for _ in range(20)]
            for number, caller in enumerate(callers):
                caller.send(encode(b"%d" % number))
                await gateway.until(lambda number=number: gateway.load == (number + 1, 0))
            gateway.serve(server, concurrency=concurrency)
            for number, caller in enumerate(callers):
                assert (await caller.read()).body == b"%d" % number
            assert most == concurrency
            if concurrency == 1:  # two connections may be made in either order
                assert [int(got.body) for got in server.got] == list(range(20))

    run(scenario())


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/v1/chat/completions", lambda told: told["error"]["message"]),
        ("/v2/models/m/infer", lambda told: told["error"]),
    ],
)
def test_beyond_the_line_and_its_time_callers_are_told_to_come_again(
    rig: Rig, path: str, read: object
) -> None:
    async def scenario() -> None:
        async with rig.gateway(max_queue=2, timeout_seconds=0.4) as (gateway,):
            gateway.serve()
            waiting = asyncio.gather(*(gateway.ask(path=path) for _ in range(2)))
            await gateway.until(lambda: gateway.load == (2, 0))
            full = await gateway.ask(path=path)
            assert (full.status, full.fields["retry-after"]) == (503, "1")
            assert "too many requests wait" in read(full.json())  # type: ignore[operator]
            for answer in await waiting:
                assert (answer.status, answer.fields["retry-after"]) == (503, "5")
                assert "no server became ready" in read(answer.json())  # type: ignore[operator]
            assert gateway.load == (0, 0)
            assert {line["outcome"] for line in gateway.lines()} == {"unavailable"}
            why = {reason: n for reason, n in gateway.process.metrics.unavailable.items() if n}
            assert why == {"full": 1, "no_server": 2}

    run(scenario())


def test_a_caller_that_hangs_up_leaves_the_line(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(max_queue=3) as (gateway,):
            gateway.serve()
            callers: list[Caller] = []
            for size in (10, 100_000, 500_000):
                callers.append(await gateway.call())
                callers[-1].send(encode(b"x" * size))
            await gateway.until(lambda: gateway.load == (3, 0))
            for caller in callers:
                caller.close()
            await gateway.until(lambda: gateway.load == (0, 0))
            assert gateway.process.dispatcher.kept == 0
            server = Upstream(reply())
            await server.start()
            gateway.serve(server)
            assert (await gateway.ask()).status == 200
            assert len(server.got) == 1
            server.kill()

    run(scenario())


def test_a_suspended_deployment_says_so(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(), suspended=True) as (gateway, server):
            answer = await gateway.ask(path="/v1/embeddings")
            assert answer.status == 503
            assert "suspended" in answer.json()["error"]["message"]
            assert answer.fields["x-should-retry"] == "false"
            assert (await gateway.ask(path="/v2/health/live", method="GET")).status == 200
            assert (await gateway.ask(path="/v2/health/ready", method="GET")).status == 503
            status = await gateway.ask(path="/-/status", method="GET")  # the page shows why
            assert (status.status, "suspended" in status.json()["trouble"]) == (200, True)
            assert gateway.process.metrics.unavailable["suspended"] == 1
            # Who looks whether it is ready hasn't failed.
            assert (gateway.process.metrics.count(), gateway.process.metrics.count_failed()) == (1, 1)
            assert [line["outcome"] for line in gateway.lines()].count("unready") == 1
            assert gateway.process.why_unready() is None  # or callers would not reach it to hear that
            assert not server.got

    run(scenario())


def test_questions_about_health_and_models_are_answered_without_a_server_and_wake_none(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            ready = await gateway.ask(path="/v2/health/ready", method="GET")
            assert (ready.status, "doesn't know" in ready.json()["error"]) == (503, True)
            gateway.serve()
            told = {}
            for path in (
                "/v1/models", "/v1/models/m", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/m",
                "/v2/models/m/ready", "/",
            ):  # fmt: skip
                answer = await gateway.ask(path=path, method="GET")
                assert answer.status == 200
                if path != "/":
                    told[path] = answer.json()
            assert [model["id"] for model in told["/v1/models"]["data"]] == ["m"]
            assert told["/v1/models/m"]["object"] == "model"
            assert told["/v2/models/m"] == {
                "name": "m", "versions": ["r1"], "platform": "modelyard", "inputs": [], "outputs": [],
            }  # fmt: skip
            assert told["/v2/models/m/ready"] == {"name": "m", "ready": True}
            assert (await gateway.ask(path="/favicon.ico", method="GET")).status == 404
            assert gateway.load == (0, 0)
            server = Upstream(reply(b'{"inputs": 1}'))
            await server.start()
            gateway.serve(server)
            assert (await gateway.ask(path="/v2/models/m", method="GET")).json() == {"inputs": 1}
            server.kill()

    run(scenario())
