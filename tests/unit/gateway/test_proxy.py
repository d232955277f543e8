"""Requests reach a server as they were sent, and answers come back as they were given."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.unit.gateway.rig import Request, Rig, encode, reply, run


def test_a_request_passes_with_its_body_and_comes_back_with_its_answer(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b'{"label":"x"}', 201, b"x-kind: a\r\nserver: s\r\n")) as (
            gateway,
            server,
        ):
            answer = await gateway.ask(b"hello", path="/v2/models/m/infer?a=%20b", fields="X-Mine: 1\r\n")
            assert (answer.status, answer.body) == (201, b'{"label":"x"}')
            assert answer.fields["x-kind"] == "a"
            [got] = server.got
            assert (got.line, got.body) == ("POST /v2/models/m/infer?a=%20b HTTP/1.1", b"hello")
            assert got.fields("x-mine") == ["1"]
            assert got.fields("host") == ["h"]
            assert gateway.load == (0, 0)

    run(scenario())


def test_connections_are_kept_on_both_sides(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            caller = await gateway.call()
            for _ in range(5):
                assert (await caller.ask()).status == 200
            assert len(server.got) == 5
            assert len(server.open) == 1
            assert len(gateway.process.front.clients) == 1

    run(scenario())


def test_fields_of_one_connection_are_not_passed_on(rig: Rig) -> None:
    async def scenario() -> None:
        sent = "Connection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nX-Public: 2\r\n"
        handler = reply(
            fields=b"connection: x-inner\r\nx-inner: 1\r\nkeep-alive: timeout=5\r\nx-outer: 2\r\n"
        )
        async with rig.gateway(handler) as (gateway, server):
            answer = await gateway.ask(fields=sent)
            assert set(answer.fields) == {"content-type", "content-length", "x-outer", "x-request-id"}
            [got] = server.got
            assert got.fields("x-public") == ["2"]
            for name in ("connection", "x-private", "keep-alive", "te"):
                assert got.fields(name) == []

    run(scenario())


@pytest.mark.parametrize("size", [0, 1, 70_000, 1 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_any_length_pass_in_both_directions(rig: Rig, size: int, chunked: bool) -> None:
    async def scenario() -> None:
        async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
            await reply(request.body)(request, writer)

        async with rig.gateway(echo) as (gateway, server):
            body = bytes(range(256)) * (size // 256 + 1)
            body = body[:size]
            caller = await gateway.call()
            for _ in range(2):
                if chunked:
                    caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                    for begin in range(0, size, 50_000):
                        piece = body[begin : begin + 50_000]
                        caller.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                        await asyncio.sleep(0.001)
                    caller.send(b"0\r\n\r\n")
                else:
                    caller.send(encode(body))
                answer = await caller.read()
                assert answer.body == body
            assert all(got.body == body for got in server.got)
            assert gateway.process.dispatcher.kept == 0

    run(scenario())


def test_a_stream_passes_token_by_token(rig: Rig) -> None:
    async def scenario() -> None:
        tokens: asyncio.Queue[bytes] = asyncio.Queue()

        async def stream(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            while token := await tokens.get():
                writer.write(b"%x\r\n%b\r\n" % (len(token), token))
            writer.write(b"0\r\n\r\n")

        # Longer than the time limit, which is until the first part only.
        async with rig.gateway(stream, timeout_seconds=0.3) as (gateway, _):
            caller = await gateway.call()
            caller.send(encode())
            status, fields = await caller.read_head()
            assert (status, fields["transfer-encoding"]) == (200, "chunked")
            for number in range(6):
                token = b"data: %d\n\n" % number
                tokens.put_nowait(token)
                assert await caller.reader.readexactly(len(token) + 5) == b"%x\r\n%b\r\n" % (
                    len(token),
                    token,
                )
                await asyncio.sleep(0.1)
            tokens.put_nowait(b"")
            assert await caller.reader.readexactly(5) == b"0\r\n\r\n"
            assert (await caller.ask(path="/v1/models", method="GET")).status == 200

    run(scenario())


def test_an_answer_that_ends_with_its_connection_is_passed_on(rig: Rig) -> None:
    async def scenario() -> None:
        async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
            writer.close()

        async with rig.gateway(handle) as (gateway, _):
            caller = await gateway.call()
            assert (await caller.ask()).body == b"all of it"
            assert (await caller.ask()).body == b"all of it"
            old = await gateway.call()
            old.send(b"POST /x HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
            answer = await old.read()
            assert answer.body == b"all of it"
            assert "transfer-encoding" not in answer.fields

    run(scenario())


def test_http_1_0_gets_chunks_as_plain_bytes_and_keeps_its_connection_on_wish(rig: Rig) -> None:
    async def scenario() -> None:
        async def chunks(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
            )

        async with rig.gateway(chunks) as (gateway, server):
            old = await gateway.call()
            old.send(b"POST /x HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
            answer = await old.read()
            assert (answer.body, answer.fields["connection"]) == (b"abc", "close")
            server.handle = reply(b"ok")
            old = await gateway.call()
            for _ in range(2):
                old.send(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                answer = await old.read()
                assert (answer.body, answer.fields["connection"]) == (b"ok", "keep-alive")

    run(scenario())


def test_head_has_no_body_and_204_and_304_neither(rig: Rig) -> None:
    async def scenario() -> None:
        async def bare(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.line.startswith("HEAD"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")
            else:
                status = b"204 None" if "/a" in request.line else b"304 Same"
                writer.write(b"HTTP/1.1 %b\r\ncontent-length: 5\r\n\r\n" % status)

        async with rig.gateway(bare) as (gateway, _):
            caller = await gateway.call()
            for _ in range(2):
                answer = await caller.ask(method="HEAD")
                assert (answer.status, answer.fields["content-length"]) == (200, "500")
                none = await caller.ask(path="/a")
                assert (none.status, none.fields.get("content-length")) == (
                    204,
                    None,
                )  # RFC 9110, section 8.6
                same = await caller.ask(path="/b")
                assert (same.status, same.fields["content-length"]) == (304, "5")
                models = await caller.ask(path="/v1/models", method="HEAD")
                assert int(models.fields["content-length"]) > 50

    run(scenario())


def test_interim_answers_of_servers_are_swallowed(rig: Rig) -> None:
    async def scenario() -> None:
        async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
            await asyncio.sleep(0.02)
            await reply(b"end")(request, writer)

        async with rig.gateway(handle) as (gateway, _):
            answer = await gateway.ask()
            assert (answer.status, answer.body) == (200, b"end")

    run(scenario())


def test_a_caller_that_asks_before_it_sends_is_told_to_go_on(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(), max_request_bytes=1000) as (gateway, server):
            caller = await gateway.call()
            caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert await caller.read_head() == (100, {})
            caller.send(b"abc")
            assert (await caller.read()).status == 200
            assert (server.got[0].body, server.got[0].fields("expect")) == (b"abc", [])
            caller.send(
                b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3000\r\n\r\n"
            )
            assert (await caller.read()).status == 413

    run(scenario())


def test_requests_sent_ahead_are_answered_in_their_order(rig: Rig) -> None:
    async def scenario() -> None:
        async def slow_first(request: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.05 if request.body == b"0" else 0)
            await reply(request.body)(request, writer)

        async with rig.gateway(slow_first) as (gateway, _):
            caller = await gateway.call()
            caller.send(
                b"".join(encode(b"%d" % n) for n in range(3)) + encode(path="/v1/models", method="GET") * 2000
            )
            assert [(await caller.read()).body for _ in range(3)] == [b"0", b"1", b"2"]
            for _ in range(2000):
                assert (await caller.read()).status == 200

    run(scenario())


def test_many_requests_sent_ahead_are_no_reason_for_others_to_wait(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"own")) as (gateway, _):
            caller = await gateway.call()
            [made] = gateway.process.front.clients
            asked = encode(path="/v2", method="GET")
            body = encode(b"x" * 90_000)
            made.data_received(asked * 20_000 + asked[:9])  # as it comes from the kernel
            assert gateway.process.front._count <= 32
            # What comes meanwhile is no part of a head that is too long, and is read on.
            made.data_received(asked[9:] + body[:80_000])
            assert made.paused
            caller.send(body[80_000:])
            for _ in range(20_001):
                assert (await caller.read()).status == 200
            assert (await caller.read()).body == b"own"

    run(scenario())


def test_a_caller_that_goes_while_its_requests_have_their_turns_is_gone(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway() as (gateway,):
            await gateway.call()
            [made] = gateway.process.front.clients
            made.data_received(encode(path="/v2", method="GET") * 1000)
            made.transport.abort()
            await gateway.until(lambda: not gateway.process.front.clients)
            await asyncio.sleep(0.05)
            assert gateway.process.front._count <= 64

    run(scenario())


def test_a_slow_reader_holds_back_its_server(rig: Rig) -> None:
    async def scenario() -> None:
        whole = 30 << 20
        written = 0

        async def flood(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % whole)
            while written < whole:
                writer.write(b"x" * 65536)
                written += 65536
                await writer.drain()

        async with rig.gateway(flood) as (gateway, _):
            caller = await gateway.call()
            caller.send(encode())
            await asyncio.sleep(0.5)
            assert written < whole  # the rest stays where it is made
            assert len((await caller.read()).body) == whole
            assert (await caller.ask(path="/v1/models", method="GET")).status == 200

    run(scenario())


def test_ids_and_trace_context_are_kept_or_made(rig: Rig) -> None:
    async def scenario() -> None:
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        async with rig.gateway(reply(fields=b"x-request-id: servers\r\n")) as (gateway, server):
            answer = await gateway.ask(
                fields=f"X-Request-Id: mine\r\ntraceparent: {trace}\r\ntracestate: a=b\r\n"
            )
            assert answer.fields["x-request-id"] == "mine"
            got = server.got[-1]
            assert got.fields("x-request-id") == ["mine"]
            assert got.fields("traceparent") == [trace]
            assert got.fields("tracestate") == ["a=b"]
            made = set()
            for bad in (
                "",
                "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
                "ff" + trace[2:],
                trace.upper(),
                trace + "-x",
            ):
                answer = await gateway.ask(
                    fields=f"X-Request-Id: a b\r\ntraceparent: {bad}\r\ntracestate: a=b\r\n"
                )
                got = server.got[-1]
                assert got.fields("x-request-id") == [answer.fields["x-request-id"]]
                [new] = got.fields("traceparent")
                assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", new)
                assert got.fields("tracestate") == []
                made |= {new, answer.fields["x-request-id"]}
            assert len(made) == 10

    run(scenario())


def test_the_log_has_a_line_for_each_request_without_its_query_and_its_body(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            await gateway.ask(
                b'{"text": "private"}', path="/v1/embeddings?token=secret", fields="X-Request-Id: one\r\n"
            )
            [line] = gateway.lines()
            assert line["id"] == "one"
            assert (line["method"], line["path"], line["status"], line["outcome"]) == (
                "POST",
                "/v1/embeddings",
                200,
                "ok",
            )
            assert (line["server"], line["revision"], line["bytes"]) == (f"127.0.0.1:{server.port}", "r1", 19)
            assert 0 < line["seconds"] < 20
            assert b"private" not in gateway.log.getvalue()
            assert b"secret" not in gateway.log.getvalue()

    run(scenario())
