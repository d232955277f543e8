"""What servers do wrong costs callers nothing where another server, or a little patience, can help."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable

import pytest
from modelyard_gateway.proxy import patience

from tests.unit.gateway.rig import Answer, Handler, Request, Rig, Upstream, encode, read_request, reply, run


async def hang(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def reset(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def close(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def close_in_the_head(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    await writer.drain()
    writer.close()


async def talk_nonsense(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 smtp.example.org ESMTP\r\n\r\n")


async def say_two_lengths(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")


async def switch_protocols(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")


async def all_of(*asked: Awaitable[Answer]) -> list[int]:
    return [answer.status for answer in await asyncio.gather(*asked)]


@pytest.mark.parametrize(
    "handler",
    [
        reset,
        close,
        close_in_the_head,
        talk_nonsense,
        say_two_lengths,
        switch_protocols,
        reply(b"", 503),
        reply(b"x", 503, b"retry-after: 1\r\n"),
    ],
)
@pytest.mark.parametrize("size", [10, 900_000])
def test_a_request_is_asked_once_more_elsewhere(rig: Rig, handler: Handler, size: int) -> None:
    async def scenario() -> None:
        async with rig.gateway(handler, reply(b"good")) as (gateway, bad, good):
            caller = await gateway.call()
            for _ in range(6):
                answer = await caller.ask(b"x" * size)
                assert (answer.status, answer.body) == (200, b"good")
            assert bad.got
            assert len(good.got) == 6
            assert all(got.body == b"x" * size for got in (*bad.got, *good.got))
            assert gateway.load == (0, 0)
            assert gateway.process.dispatcher.kept == 0
            assert sum(gateway.process.metrics.retries.values()) == len(bad.got)

    run(scenario())


def test_it_is_asked_no_more_than_twice(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reset, reset, reset) as (gateway, *servers):
            answer = await gateway.ask(path="/v1/embeddings")
            assert answer.status == 502
            assert "closed the connection" in answer.json()["error"]["message"]
            assert sum(len(server.got) for server in servers) == 2
            assert gateway.load == (0, 0)
            [line] = gateway.lines()
            assert (line["outcome"], line["repeats"]) == ("broken", 1)

    run(scenario())


def test_the_only_servers_503_is_the_answer(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"busy", 503, b"retry-after: 3\r\n")) as (gateway, server):
            answer = await gateway.ask()
            assert (answer.status, answer.body, answer.fields["retry-after"]) == (503, b"busy", "3")
            assert len(server.got) == 1

    run(scenario())


def test_servers_that_do_not_listen_cost_nothing_however_many(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(*[reply(b"ok")] * 5) as (gateway, *servers):
            for server in servers[:4]:
                server.kill()
            assert await all_of(*(gateway.ask() for _ in range(20))) == [200] * 20
            assert len(servers[4].got) == 20

    run(scenario())


def test_requests_wait_for_the_only_server_to_come_back(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(hang) as (gateway, server):
            asked = asyncio.gather(*(gateway.ask() for _ in range(5)))
            await gateway.until(lambda: len(server.got) == 5)
            server.handle = reply(b"back")
            server.kill()
            await gateway.until(lambda: gateway.load == (5, 0))
            await server.start()
            assert [answer.body for answer in await asked] == [b"back"] * 5
            assert gateway.load == (0, 0)

    run(scenario())


def test_a_kept_connection_that_the_server_closed_is_no_failure(rig: Rig) -> None:
    async def scenario() -> None:
        async def answer_and_leave(request: Request, writer: asyncio.StreamWriter) -> None:
            await reply(b"x")(request, writer)
            await writer.drain()
            writer.close()

        async with rig.gateway(answer_and_leave) as (gateway, server):
            caller = await gateway.call()
            for _ in range(20):
                assert (await caller.ask()).status == 200
            server.handle = reply(b"x")
            assert (await caller.ask()).status == 200

            async def reset_once(request: Request, writer: asyncio.StreamWriter) -> None:
                server.handle = reply(b"again")
                writer.transport.abort()  # as a server whose keep-alive has ended in this moment

            server.handle = reset_once
            assert (await caller.ask()).body == b"again"

    run(scenario())


@pytest.mark.parametrize("size", [10, 1_500_000])
def test_a_server_that_just_closes_an_old_connection_costs_nothing_whatever_the_size(
    rig: Rig, size: int
) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(), max_request_bytes=10_000_000) as (gateway, server):
            made: list[asyncio.StreamWriter] = []

            async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                made.append(writer)
                assert await read_request(reader)
                await reply(b"ok")(Request(b"", b""), writer)
                await reader.read(1)  # the next one comes too late
                writer.transport.abort()

            listener = await asyncio.start_server(once, "127.0.0.1", 0, limit=1 << 22)
            server.port = listener.sockets[0].getsockname()[1]
            gateway.serve(server)
            try:
                for _ in range(3):
                    assert (await gateway.ask(b"x" * size)).status == 200
                assert len(made) == 3
            finally:
                for writer in made:
                    writer.transport.abort()
                listener.close()

    run(scenario())


def test_half_an_answer_is_never_taken_for_a_whole_one(rig: Rig) -> None:
    async def scenario() -> None:
        async def half(request: Request, writer: asyncio.StreamWriter) -> None:
            framing = (
                b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
                if b"c" in request.body
                else b"content-length: 9\r\n\r\nabc"
            )
            writer.write(b"HTTP/1.1 200 OK\r\n" + framing)
            await writer.drain()
            writer.transport.close()

        async with rig.gateway(half, half) as (gateway, *servers):
            for body in (b"l", b"c"):
                with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                    await gateway.ask(body)
            assert sum(len(server.got) for server in servers) == 2
            assert [line["outcome"] for line in gateway.lines()] == ["broken", "broken"]
            assert gateway.load == (0, 0)

    run(scenario())


def test_a_server_that_is_too_slow_is_given_up(rig: Rig) -> None:
    async def scenario() -> None:
        async def stall(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.body == b"half":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
            await asyncio.Event().wait()

        async with rig.gateway(stall, timeout_seconds=0.3) as (gateway, server):
            answer = await gateway.ask(path="/v1/embeddings")
            assert answer.status == 504
            assert answer.json()["error"]["code"] == "timeout"
            assert (
                answer.fields["x-should-retry"] == "false"
            )  # OpenAI's client would have it computed three times
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await gateway.ask(b"half")
            await gateway.until(lambda: server.gone == 2)  # it is told by the end of its connection
            assert gateway.load == (0, 0)
            assert [line["outcome"] for line in gateway.lines()] == ["timeout", "timeout"]

    run(scenario())


@pytest.mark.parametrize("begun", [False, True])
def test_a_caller_that_hangs_up_frees_its_server(rig: Rig, begun: bool) -> None:
    async def scenario() -> None:
        async def stream(request: Request, writer: asyncio.StreamWriter) -> None:
            if begun:
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            await asyncio.Event().wait()

        async with rig.gateway(stream) as (gateway, server):
            gateway.serve(server, concurrency=1)
            caller = await gateway.call()
            caller.send(encode())
            if begun:
                await caller.reader.readuntil(b"a\r\n")
            await gateway.until(lambda: len(server.got) == 1)
            server.handle = reply(b"next")
            waiting = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: gateway.load == (1, 1))
            caller.close()
            assert (await waiting).body == b"next"
            assert server.gone == 1
            assert gateway.load == (0, 0)
            assert [line["outcome"] for line in gateway.lines()] == ["gone", "ok"]

    run(scenario())


def test_a_server_that_answers_before_it_has_all_ends_both_connections(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(), max_request_bytes=10_000_000) as (gateway, server):

            async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 400 No\r\ncontent-length: 2\r\n\r\nno")
                await reader.read()
                writer.close()

            listener = await asyncio.start_server(early, "127.0.0.1", 0)
            server.port = listener.sockets[0].getsockname()[1]
            gateway.serve(server)
            caller = await gateway.call()
            caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 2_000_000)
            answer = await caller.read()
            assert (answer.status, answer.fields["connection"]) == (400, "close")
            assert await caller.is_closed()
            assert gateway.load == (0, 0)
            listener.close()

    run(scenario())


def test_a_server_that_resets_whatever_it_accepts_costs_nothing_while_there_is_another(rig: Rig) -> None:
    async def scenario() -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

        async with rig.gateway(reply(), reply(b"good")) as (gateway, bad, good):
            listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
            bad.port = listener.sockets[0].getsockname()[1]
            for _ in range(10):
                gateway.serve(good)
                gateway.serve(good, bad)  # not rested any more
                assert await all_of(*(gateway.ask() for _ in range(10))) == [200] * 10
            assert gateway.load == (0, 0)
            listener.close()

    run(scenario())


def test_a_server_that_is_busy_costs_nothing_while_another_will_have_room(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"stopping", 503), reply(b"ok", delay=0.3)) as (gateway, busy, good):
            gateway.serve(busy, good, concurrency=1)
            assert await all_of(*(gateway.ask() for _ in range(4))) == [200] * 4
            # Nor does one that was refused hold up those that the other would take.
            gate = asyncio.Event()

            async def hold(request: Request, writer: asyncio.StreamWriter) -> None:
                await gate.wait()
                await reply(b"ok")(request, writer)

            good.handle = hold
            asked = [asyncio.ensure_future(gateway.ask()) for _ in range(2)]
            await gateway.until(lambda: gateway.load == (1, 1))
            busy.handle = reply(b"not stopping")
            assert (await gateway.ask()).body == b"not stopping"
            assert gateway.load == (1, 1)
            # Without another it is asked again.
            gateway.serve(busy, concurrency=1)
            await gateway.until(lambda: any(answer.done() for answer in asked))
            gate.set()
            assert sorted([(await answer).body for answer in asked]) == [b"not stopping", b"ok"]

    run(scenario())


def test_where_all_servers_are_busy_that_is_the_answer(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(*[reply(b"busy", 503)] * 3) as (gateway, *servers):
            answer = await gateway.ask()
            assert (answer.status, answer.body) == (503, b"busy")
            assert [len(server.got) for server in servers] == [1, 1, 1]

    run(scenario())


def test_requests_that_fail_together_make_a_server_rest_once_and_keep_their_order(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(hang) as (gateway, server):
            asked = []
            for number in range(10):
                asked.append(asyncio.ensure_future(gateway.ask(b"%d" % number)))
                await gateway.until(lambda number=number: len(server.got) == number + 1)
            server.kill()
            await gateway.until(lambda: gateway.load == (10, 0))
            assert [exchange.body() for exchange in gateway.process.dispatcher._line] == [
                b"%d" % number for number in range(10)
            ]
            server.handle = reply(b"back")
            began = asyncio.get_running_loop().time()
            await server.start()
            assert {(await answer).body for answer in asked} == {b"back"}
            assert asyncio.get_running_loop().time() - began < 4  # not the 8 s after a fifth failure

    run(scenario())


def test_a_server_whose_readiness_flaps_gets_no_more_than_it_takes(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(hang) as (gateway, server):
            gateway.serve(server, concurrency=2)
            asked = [asyncio.ensure_future(gateway.ask()) for _ in range(4)]
            await gateway.until(lambda: gateway.load == (2, 2))
            gateway.serve()
            gateway.serve(server, concurrency=2)
            assert gateway.load == (2, 2)
            server.handle = reply(b"next")
            for caller in gateway.callers[:2]:
                caller.close()
            for answer in asked[2:]:
                assert (await answer).body == b"next"
            assert gateway.load == (0, 0)
            await asyncio.gather(*asked, return_exceptions=True)

    run(scenario())


def test_that_no_server_could_be_reached_is_what_callers_are_told(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(), timeout_seconds=0.5) as (gateway, server):
            server.kill()
            answer = await gateway.ask()
            assert (answer.status, answer.fields["retry-after"]) == (503, "5")
            assert "no server could be reached" in answer.json()["error"]

    run(scenario())


def test_a_server_to_which_no_connection_comes_about_in_time_could_not_be_reached(rig: Rig) -> None:
    async def scenario() -> None:
        cache = {"max_entries": 9, "ttl_seconds": 9}
        with contextlib.ExitStack() as stack:
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(2):  # no more are answered then
                filling = stack.enter_context(socket.socket())
                filling.setblocking(False)
                filling.connect_ex(silent.getsockname())
            async with rig.gateway(timeout_seconds=0.6, cache=cache) as (gateway,):
                server = Upstream(reply())
                server.port = silent.getsockname()[1]
                gateway.serve(server)
                for answer in await asyncio.gather(*(gateway.ask() for _ in range(3))):
                    assert (answer.status, answer.fields["retry-after"]) == (503, "5")
                    assert "no server could be reached" in answer.json()["error"]
                assert gateway.process.metrics.unavailable["unreachable"] == 3
                await gateway.until(lambda: gateway.load == (0, 0))

    run(scenario())


async def babble(request: Request, writer: asyncio.StreamWriter) -> None:
    """Streams without end, once it has been told how much at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
    size = int(request.body)
    while size:
        writer.write(b"%x\r\n%b\r\n" % (size, b"x" * size))
        await writer.drain()
    await asyncio.Event().wait()


@pytest.mark.parametrize(("size", "outcome"), [(0, "timeout"), (65536, "gone")])
def test_a_stream_that_does_not_move_gives_its_place_back(rig: Rig, size: int, outcome: str) -> None:
    async def scenario() -> None:
        async with rig.gateway(babble, timeout_seconds=0.6) as (gateway, server):
            caller = await gateway.call()
            caller.writer.transport.pause_reading()
            caller.send(encode(b"%d" % size))
            await gateway.until(lambda: gateway.load == (0, 1))
            await gateway.until(lambda: gateway.load == (0, 0))
            await gateway.until(lambda: not server.open)  # it is told
            assert [line["outcome"] for line in gateway.lines()] == [outcome]

    run(scenario())


@pytest.mark.parametrize("closing", [False, True])
def test_answers_that_nobody_reads_end_with_their_connection(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, closing: bool
) -> None:
    monkeypatch.setattr(patience, "UNREAD_SECONDS", 0.4)

    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, _):
            caller = await gateway.call()
            caller.writer.transport.pause_reading()
            [made] = gateway.process.front.clients
            # Until all buffers between the two are full.
            while not made.transport.get_write_buffer_size():
                caller.send(encode(path="/-/page.js", method="GET") * 100)
                await asyncio.sleep(0.005)
            if closing:
                made.transport.close()
            await gateway.until(lambda: not gateway.process.front.clients)

    run(scenario())
