"""Bodies that come slowly, and more of them than are kept, cost their callers' time and nobody else's."""

from __future__ import annotations

import asyncio
import socket

import pytest
from modelyard_gateway.proxy import client, dispatcher, front, patience

from tests.unit.gateway.rig import Gateway, Request, Rig, Upstream, encode, reply, run


async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
    await reply(request.body)(request, writer)


def head(size: int) -> bytes:
    return b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size


def kept(gateway: Gateway) -> int:
    return gateway.process.dispatcher.kept


def test_a_body_that_stalls_has_no_server(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            gateway.serve(server, concurrency=4)
            for _ in range(4):
                (await gateway.call()).send(head(1 << 20) + b"x" * 900_000)
            await gateway.until(lambda: kept(gateway) == 4 * 900_000)
            assert gateway.load == (0, 0)
            assert (await gateway.ask()).status == 200

    run(scenario())


def test_a_long_body_that_stalls_gives_its_server_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STALL_SECONDS", 0.4)

    async def scenario() -> None:
        async with rig.gateway(echo, max_request_bytes=5_000_000) as (gateway, server):
            gateway.serve(server, concurrency=1)
            caller = await gateway.call()
            caller.send(head(3_000_000) + b"x" * 2_000_000)
            await gateway.until(lambda: gateway.load == (0, 1))
            answer = await caller.read()
            assert (answer.status, "did not come in time" in answer.body.decode()) == (408, True)
            await gateway.until(lambda: gateway.load == (0, 0))
            # One that goes on may take longer than that.
            caller = await gateway.call()
            caller.send(head(3_000_000) + b"x" * 2_000_000)
            for _ in range(5):
                await asyncio.sleep(0.2)
                caller.send(b"x" * 200_000)
            assert len((await caller.read()).body) == 3_000_000

    run(scenario())


def test_where_no_more_can_be_kept_a_request_is_sent_once_and_waits_for_its_server(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "KEPT_IN_ALL", 100_000)

    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            gateway.serve()
            full = asyncio.ensure_future(gateway.ask(b"y" * 90_000))
            await gateway.until(lambda: kept(gateway) == 90_000)
            at_once = asyncio.ensure_future(gateway.ask(b"z" * 30_000))
            caller = await gateway.call()
            caller.send(head(400_000) + b"x" * 20_000)
            await gateway.until(lambda: gateway.load == (3, 0))
            for _ in range(38):
                caller.send(b"x" * 10_000)
            server = Upstream(echo)
            await server.start()
            gateway.serve(server)
            assert (await caller.read()).body == b"x" * 400_000
            assert [(await answer).body for answer in (full, at_once)] == [b"y" * 90_000, b"z" * 30_000]
            assert kept(gateway) == 0
            server.kill()

    run(scenario())


def test_a_body_that_came_while_its_caller_read_no_answers_is_read_on(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(echo, timeout_seconds=5) as (gateway, _):
            caller = await gateway.call()
            caller.writer.transport.pause_reading()
            [made] = gateway.process.front.clients
            asked = 0
            while not made.congested:
                caller.send(encode(path="/-/page.js", method="GET"))
                asked += 1
                await gateway.until(lambda asked=asked: gateway.process.front._count == asked)
            assert not made.ahead  # its own answers would have it read on
            caller.send(encode(b"x" * 600_000))
            await gateway.until(lambda: made.paused)
            caller.writer.transport.resume_reading()
            for _ in range(asked):
                assert (await caller.read()).status == 200
            assert (await caller.read()).body == b"x" * 600_000

    run(scenario())


@pytest.mark.parametrize("in_all", [16 << 20, 0])
@pytest.mark.parametrize("cut", [1, 40])
def test_a_body_that_comes_with_the_rest_of_a_head_is_no_more_of_that_head(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, cut: int, in_all: int
) -> None:
    monkeypatch.setattr(client, "_AHEAD_IN_ALL", in_all)

    async def scenario() -> None:
        async with rig.gateway(echo, timeout_seconds=5) as (gateway, _):
            caller = await gateway.call()
            await gateway.until(lambda: len(gateway.process.front.clients) == 1)
            [made] = gateway.process.front.clients
            sent = encode(b"x" * 600_000)
            for part in (sent[:cut], sent[cut:120_000]):
                made.data_received(part)  # as they come from the kernel
            caller.send(sent[120_000:])
            answer = await caller.read()
            assert (answer.status, answer.body) == (200, b"x" * 600_000)
            assert gateway.process.front.ahead == 0

    run(scenario())


@pytest.mark.parametrize("served", [False, True])
def test_what_all_callers_send_ahead_has_bounds_and_only_they_notice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, served: bool
) -> None:
    monkeypatch.setattr(client, "_AHEAD_IN_ALL", 1 << 20)

    async def scenario() -> None:
        gate = asyncio.Event()

        async def hold(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.body == b"hold":
                await gate.wait()
            await reply(b"own")(request, writer)

        async with rig.gateway(hold) as (gateway, server):
            front = gateway.process.front
            callers = [await gateway.call() for _ in range(20)]
            for caller in callers:
                if served:
                    caller.send(encode(b"hold"))
                    await gateway.until(lambda: gateway.load[1] == len(server.got) > 0)
                else:
                    caller.writer.transport.pause_reading()
                caller.send(encode(path="/-/page.js", method="GET") * 50_000)
            most = 0
            for _ in range(100):
                most = max(most, front.ahead)
                assert front.ahead == sum(len(made.ahead) for made in front.clients)
                await asyncio.sleep(0.005)
            assert 900_000 < most < (1 << 20) + 20 * 4096
            # Whoever's request comes in two pieces isn't sent away.
            other = await gateway.call()
            for part in (encode(b"abc")[:30], encode(b"abc")[30:]):
                other.send(part)
                await asyncio.sleep(0.02)
            assert (await other.read()).body == b"own"
            gate.set()
            ended = 0
            for caller in callers:
                caller.writer.transport.resume_reading()
                answer = await caller.read()
                assert answer.status == 200
                ended += answer.fields.get("connection") == "close"
            assert (ended > 5) == served
            for caller in gateway.callers:
                caller.close()
            await gateway.until(lambda: not front.clients)
            assert front.ahead == 0

    run(scenario())


def test_where_too_much_was_sent_ahead_already_a_long_head_in_pieces_is_told_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_AHEAD_IN_ALL", 0)

    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, _):
            caller = await gateway.call()
            caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\na: " + b"b" * 5000)
            answer = await caller.read()
            assert (answer.status, answer.fields["connection"]) == (503, "close")
            assert await caller.is_closed()
            assert gateway.process.front.ahead == 0
            assert (await gateway.ask(fields=f"a: {'b' * 5000}\r\n")).status == 200

    run(scenario())


def test_a_body_is_kept_no_longer_than_until_its_answer_begins(rig: Rig) -> None:
    async def scenario() -> None:
        async def begin(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            await asyncio.Event().wait()

        async with rig.gateway(begin) as (gateway, _):
            for size in (10, 900_000):
                caller = await gateway.call()
                caller.send(encode(b"x" * size))
                await caller.reader.readuntil(b"a\r\n")
            assert (gateway.load, kept(gateway)) == ((0, 2), 0)

    run(scenario())


def test_a_body_that_comes_with_its_head_counts_among_those_that_are_kept(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            gateway.serve()
            caller = await gateway.call()
            caller.send(encode(b"x" * 10_000))
            await gateway.until(lambda: gateway.load == (1, 0))
            assert kept(gateway) == 10_000
            caller.close()
            await gateway.until(lambda: kept(gateway) == 0)

    run(scenario())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_in_many_pieces_costs_no_more_than_its_bytes(rig: Rig, chunked: bool) -> None:
    async def scenario() -> None:
        async with rig.gateway(echo) as (gateway, _):
            caller = await gateway.call()
            pieces = 4000
            if chunked:
                caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                caller.send(b"2\r\nxy\r\n" * pieces)
            else:
                caller.send(head(2 * pieces + 1))
                await gateway.until(lambda: any(c.exchange for c in gateway.process.front.clients))
                [made] = gateway.process.front.clients
                for _ in range(pieces):
                    made.data_received(b"xy")  # as they come from the kernel
            await gateway.until(lambda: kept(gateway) == 2 * pieces)
            [made] = gateway.process.front.clients
            assert len(made.exchange.pieces) <= 257
            caller.send(b"1\r\nz\r\n0\r\n\r\n" if chunked else b"z")
            assert (await caller.read()).body == b"xy" * pieces + b"z"

    run(scenario())


def test_there_is_an_end_to_connections_and_whoever_is_sent_away_hears_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "_MOST_CLIENTS", 3)

    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, _):
            callers = [await gateway.call() for _ in range(3)]
            for caller in callers:
                assert (await caller.ask()).status == 200
            fourth = await gateway.call()
            answer = await fourth.read()
            assert (answer.status, answer.fields["retry-after"]) == (503, "5")
            assert await fourth.is_closed()
            callers[0].close()
            await gateway.until(lambda: len(gateway.process.front.clients) == 2)
            assert (await gateway.ask()).status == 200

    run(scenario())


def test_where_there_are_many_connections_those_idle_for_longest_make_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "_MANY_CLIENTS", 3)

    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, _):
            callers = []
            for _ in range(5):
                callers.append(await gateway.call())
                assert (await callers[-1].ask()).status == 200
            callers[0].send(b"POST / HTTP/1.1\r\n")
            await gateway.until(lambda: any(made.is_busy() for made in gateway.process.front.clients))
            assert (await callers[1].ask()).status == 200
            assert len(gateway.process.front.clients) == 5  # any of them may be used in a moment
            monkeypatch.setattr(front, "_SHORTEST_IDLE", 0.0)
            assert await callers[2].is_closed()
            assert await callers[3].is_closed()
            assert (await callers[1].ask()).status == 200
            assert len(gateway.process.front.clients) == 3

    run(scenario())


def test_the_kernel_looks_whether_callers_are_still_there(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, _):
            await (await gateway.call()).ask()
            [made] = gateway.process.front.clients
            connection = made.transport.get_extra_info("socket")
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000

    run(scenario())


def test_the_kernel_looks_whether_servers_are_still_there_and_lets_them_read_when_they_like(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, _):
            await gateway.ask()
            [server] = gateway.process.fleet.revisions["r1"].servers.values()
            connection = server.idle[0].transport.get_extra_info("socket")
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0

    run(scenario())


def test_what_all_callers_leave_unread_has_a_bound_and_those_with_the_most_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "_UNREAD_IN_ALL", 180_000)
    page = encode(path="/-/page.js", method="GET")

    async def scenario() -> None:
        async with rig.gateway(reply(b"own")) as (gateway, _):
            clients: set[client.Client] = gateway.process.front.clients

            async def pile_up(enough: int) -> client.Client:
                known = set(clients)
                caller = await gateway.call()
                caller.writer.transport.pause_reading()
                await gateway.until(lambda: len(clients) > len(known))
                [made] = set(clients) - known
                # The kernel takes little, so that this doesn't take long.
                made.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                caller.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                while made.transport.get_write_buffer_size() < enough:
                    count = gateway.process.front._count
                    caller.send(page)
                    await gateway.until(lambda count=count: gateway.process.front._count > count)
                return made

            few = await pile_up(20_000)
            many = [await pile_up(60_000) for _ in range(2)]
            assert few.congested is False
            await asyncio.sleep(0.5)
            assert clients == {few, *many}
            many.append(await pile_up(60_000))
            await gateway.until(lambda: len(clients) == 3)
            assert few in clients
            assert (await gateway.ask()).body == b"own"

    run(scenario())
