"""A server that takes requests and answers none gets no more than it must."""

from __future__ import annotations

import asyncio

from modelyard_gateway.balance.servers import Server

from tests.unit.gateway.rig import Gateway, Request, Rig, Upstream, encode, reply, run
from tests.unit.gateway.test_failures import all_of, hang


def find(gateway: Gateway, server: Upstream) -> Server:
    return gateway.process.fleet.revisions["r1"].servers["127.0.0.1", server.port]


def test_a_server_that_answers_nothing_is_left_alone_while_there_is_another(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(), hang, timeout_seconds=0.6) as (gateway, _, bad):
            answers = [await gateway.ask() for _ in range(30)]
            [late] = [answer for answer in answers if answer.status == 504]
            assert "x-should-retry" not in late.fields  # another server has it
            assert len(bad.got) == 1
            # After its rest it is tried with one request, whatever else comes.
            found = find(gateway, bad)
            await gateway.until(lambda: found.rests_until < asyncio.get_running_loop().time())
            assert sorted(await all_of(*(gateway.ask() for _ in range(20)))) == [200] * 19 + [504]
            assert len(bad.got) == 2
            # It rests for longer, and is there again with the first thing that comes from it.
            assert found.failures == 2
            bad.handle = reply()
            await gateway.until(lambda: found.rests_until < asyncio.get_running_loop().time())
            assert await all_of(*(gateway.ask() for _ in range(10))) == [200] * 10
            assert (found.hangs, found.limit) == (False, float("inf"))
            assert gateway.load == (0, 0)

    run(scenario())


def test_the_only_server_is_asked_whatever_it_does(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(hang, timeout_seconds=0.3) as (gateway, server):
            assert await all_of(*(gateway.ask() for _ in range(3))) == [504] * 3
            server.handle = reply()
            assert await all_of(*(gateway.ask() for _ in range(3))) == [200] * 3

    run(scenario())


def test_where_all_hang_one_is_asked_all_the_same(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(hang, hang, timeout_seconds=0.3) as (gateway, *servers):
            for _ in range(2):
                assert await all_of(*(gateway.ask() for _ in range(6))) == [504] * 6
            assert sorted(find(gateway, server).hangs for server in servers) == [False, True]

    run(scenario())


def test_one_that_rests_is_asked_when_the_others_go(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(), hang, timeout_seconds=0.6) as (gateway, _, bad):
            assert 504 in [(await gateway.ask()).status for _ in range(2)]
            found = find(gateway, bad)
            found.rests_until += 60  # as after many failures
            bad.handle = reply(b"there", delay=0.1)
            gateway.serve(bad)
            assert [answer.body for answer in await asyncio.gather(*(gateway.ask() for _ in range(3)))] == [
                b"there"
            ] * 3

    run(scenario())


def test_a_server_that_answers_others_meanwhile_is_only_slow(rig: Rig) -> None:
    async def scenario() -> None:
        async def choose(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.body == b"long":
                await asyncio.Event().wait()
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while request.body == b"stream":
                writer.write(b"1\r\na\r\n")
                await asyncio.sleep(0.05)

        async with rig.gateway(choose, reply(), timeout_seconds=0.5) as (gateway, slow, other):
            gateway.serve(slow)
            stream = await gateway.call()
            stream.send(encode(b"stream"))
            await stream.read_head()
            long = asyncio.ensure_future(gateway.ask(b"long"))
            await gateway.until(lambda: len(slow.got) == 2)
            gateway.serve(slow, other)
            assert (await long).status == 504
            assert find(gateway, slow).failures == 0

    run(scenario())


def test_time_in_line_is_not_the_servers(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(hang, reply(), timeout_seconds=0.8) as (gateway, slow, other):
            gateway.serve(slow, concurrency=1)
            first = await gateway.call()
            first.send(encode())
            await gateway.until(lambda: len(slow.got) == 1)
            second = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: gateway.load == (1, 1))
            await asyncio.sleep(0.5)
            first.close()  # the second has the rest of its time
            await gateway.until(lambda: len(slow.got) == 2)
            gateway.serve(slow, other, concurrency=1)
            assert (await second).status == 504
            assert find(gateway, slow).failures == 0

    run(scenario())
