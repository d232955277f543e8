"""What isn't HTTP/1.1, or could be read in two ways, reaches no server; what takes too long ends."""

from __future__ import annotations

import asyncio
import socket

import pytest
from modelyard_gateway.proxy import patience
from modelyard_gateway.wire.chunks import Chunks
from modelyard_gateway.wire.chunks import encode as encode_chunk
from modelyard_gateway.wire.fields import MAX_HEAD, Malformed

from tests.unit.gateway.rig import Rig, encode, reply, run

HOST = b"Host: h\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: h\r\n"
REFUSED = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    "two lengths in one": (POST + b"Content-Length: 1, 1\r\n\r\na", 400),
    "a signed length": (POST + b"Content-Length: +1\r\n\r\na", 400),
    "a negative length": (POST + b"Content-Length: -1\r\n\r\na", 400),
    "a length in another base": (POST + b"Content-Length: 0x1\r\n\r\na", 400),
    "no length": (POST + b"Content-Length: \r\n\r\na", 400),
    "a long length": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "length and chunks": (
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunks and length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        400,
    ),
    "another coding": (POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", (400, 501)),
    "two codings": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "not quite chunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "chunked hidden": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", (400, 501)),
    "chunks of HTTP/1.0": (b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a bare line feed": (b"GET /x HTTP/1.1\r\n" + HOST + b"A: b\nContent-Length: 1\r\n\r\n", 400),
    "line feeds only": (b"GET /x HTTP/1.1\nHost: h\n\n", 400),
    "a bare carriage return": (b"GET /x HTTP/1.1\r\n" + HOST + b"A: b\rC: d\r\n\r\n", 400),
    "a zero": (b"GET /x HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n", 400),
    "a space before the colon": (b"GET /x HTTP/1.1\r\n" + HOST + b"Content-Length : 1\r\n\r\na", 400),
    "a folded field": (b"GET /x HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400),
    "a first field folded": (b"GET /x HTTP/1.1\r\n " + HOST + b"\r\n", 400),
    "no name": (b"GET /x HTTP/1.1\r\n" + HOST + b": b\r\n\r\n", 400),
    "no colon": (b"GET /x HTTP/1.1\r\n" + HOST + b"Abc\r\n\r\n", 400),
    "a name that is none": (b"GET /x HTTP/1.1\r\n" + HOST + b"A(b): c\r\n\r\n", 400),
    "a space in the path": (b"GET /x y HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a path of other bytes": (b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a fragment": (b"GET /x#y HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no path": (b"GET x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a star": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tunnel": (b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "no method": (b"G=T /x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "HTTP/0.9": (b"GET /x\r\n\r\n", 505),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "HTTP/1.2": (b"GET /x HTTP/1.2\r\n" + HOST + b"\r\n", (400, 505)),
    "two empty lines": (b"\r\n\r\nGET /x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "empty lines only": (b"\r\n" * 100_000, 400),
    "a URL with a user": (b"GET http://a@b/x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a URL without a host": (b"GET http:///x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "an expectation": (POST + b"Expect: tea\r\nContent-Length: 1\r\n\r\na", 417),
    "a WebSocket": (
        b"GET /x HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        501,
    ),
    "too many fields": (b"GET /x HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 101 + b"\r\n", 431),
    "a long head": (b"GET /x HTTP/1.1\r\n" + HOST + b"a: " + b"b" * MAX_HEAD + b"\r\n\r\n", 431),
    "a head without end": (b"GET /x HTTP/1.1\r\n" + HOST + b"a: " + b"b" * MAX_HEAD, 431),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_the_connection_ends(rig: Rig, name: str) -> None:
    sent, expected = REFUSED[name]

    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            caller = await gateway.call()
            caller.send(sent + b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
            answer = await caller.read()
            assert answer.status in (expected if isinstance(expected, tuple) else (expected,))
            assert answer.fields["connection"] == "close"
            assert answer.json()["error"]["message"]
            assert await caller.is_closed()
            assert not server.got
            assert gateway.load == (0, 0)
            assert len(gateway.lines()) == 1

    run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n\r\n",
        b"-1\r\na\r\n0\r\n\r\n",
        b"1\r\nab\r\n0\r\n\r\n",
        b"1\na\r\n0\r\n\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"0x1\r\na\r\n0\r\n\r\n",
        b"1 \r\na\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\na\r\n",
        b"1\r\na\r\n0\r\nb c\r\n\r\n",
        b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n",
        b"1;" + b"a" * 40_000 + b"\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\n" + b"t: u\r\n" * 200 + b"\r\n",
    ],
)
def test_malformed_chunks_are_refused(rig: Rig, body: bytes) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            caller = await gateway.call()
            caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
            assert (await caller.read()).status == 400
            assert await caller.is_closed()
            assert not server.got

    run(scenario())


def test_extensions_and_trailers_of_chunks_are_dropped_and_what_follows_ends_the_connection(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            caller = await gateway.call()
            head = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            caller.send(head + b"1;a=b\r\nx\r\n0\r\nX-Sum: 5\r\n\r\n" + encode(b"2"))
            answer = await caller.read()
            assert (answer.status, answer.fields["connection"]) == (200, "close")
            assert await caller.is_closed()
            [got] = server.got
            assert (got.body, got.fields("content-length")) == (b"x", ["1"])

    run(scenario())


@pytest.mark.parametrize("sent", [b"0\r\nt: ", b"1;a="])
def test_a_long_body_earns_no_long_trailers_or_extensions(sent: bytes) -> None:
    chunks = Chunks()
    assert sum(map(len, chunks.feed(encode_chunk(b"x" * (1 << 20))))) == 1 << 20
    chunks.feed(sent)
    taken = 0
    with pytest.raises(Malformed):
        while taken < 2 * MAX_HEAD:
            chunks.feed(b"u" * 100)
            taken += 100
    assert MAX_HEAD - 200 < taken <= MAX_HEAD


def test_a_body_in_chunks_of_a_byte_may_be_as_long_as_any() -> None:
    chunks = Chunks()
    sent = encode_chunk(b"x") * 30_000
    got = sum(len(chunks.feed(sent[at : at + 7])) for at in range(0, len(sent), 7))
    assert got == 30_000


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_in_words_that_reach_the_caller(rig: Rig, chunked: bool) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(), max_request_bytes=100_000) as (gateway, server):
            caller = await gateway.call()
            if chunked:
                caller.send(b"POST /v2/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(5):
                    caller.send(b"%x\r\n%b\r\n" % (1 << 16, b"x" * (1 << 16)))
            else:
                caller.send(
                    b"POST /v2/x HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
                )
            answer = await caller.read()
            assert (answer.status, answer.fields["connection"]) == (413, "close")
            assert "100000 bytes" in answer.json()["error"]
            assert await caller.is_closed()
            assert gateway.load == (0, 0)
            # What was sent on before its length was known is not taken for a request.
            assert all(len(got.body) <= 100_000 for got in server.got)
            assert (await gateway.ask(b"x" * 100_000)).status == 200

    run(scenario())


def test_slow_heads_and_bodies_end_and_hurt_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(patience, "LINGER_SECONDS", 0.1)

    async def scenario() -> None:
        async with rig.gateway(reply(), timeout_seconds=0.8) as (gateway, server):
            slow = [await gateway.call() for _ in range(200)]
            for _ in range(4):
                for caller in slow:
                    caller.send(b"POST /x HTTP/1.1\r\nHost: h\r\n" if _ == 0 else b"a: b\r\n")
                assert (await gateway.ask()).status == 200
                await asyncio.sleep(0.05)
            for caller in slow:
                assert (await caller.read()).status == 408
            body = await gateway.call()
            body.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
            assert (await body.read()).status == 408
            assert len(server.got) == 4
            # Those who were answered are left, whether the others have closed their side or not.
            await gateway.until(lambda: len(gateway.process.front.clients) == 4)

    run(scenario())


def test_idle_connections_end_and_an_offer_of_http_2_is_no_failure(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert patience.IDLE_SECONDS > 3600  # no load balancer of note keeps one for longer
    monkeypatch.setattr(patience, "IDLE_SECONDS", 0.3)

    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            caller = await gateway.call()
            # As Java's client begins.
            offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
            assert (await caller.ask(b"body", fields=offer)).status == 200
            assert server.got[0].body == b"body"
            for name in ("upgrade", "http2-settings", "connection"):
                assert server.got[0].fields(name) == []
            assert await caller.is_closed()

    run(scenario())


def test_a_refusal_is_as_its_protocol_has_it(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(max_request_bytes=1) as (gateway,):
            openai = await gateway.ask(path="/v1/embeddings")
            assert openai.json()["error"] == {
                "message": "the request has more than 1 bytes (traffic.maxRequestBytes)",
                "type": "invalid_request_error",
                "param": None,
                "code": "request_too_large",
            }
            assert isinstance((await gateway.ask(path="/v2/models/m/infer")).json()["error"], str)

    run(scenario())


def test_one_empty_line_before_a_request_is_passed_over_however_it_comes(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, _):
            caller = await gateway.call()
            for pieces in ((b"\r\n" + encode(),), (b"\r\n", encode()), (b"\r", b"\n" + encode())):
                for piece in pieces:
                    caller.send(piece)
                    await asyncio.sleep(0.02)
                assert (await caller.read()).status == 200
            for piece in (b"\r\n", b"\r", b"\n"):
                caller.send(piece)
                await asyncio.sleep(0.02)
            assert (await caller.read()).status == 400

    run(scenario())


def test_a_head_is_read_whatever_pieces_it_comes_in(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            caller = await gateway.call()
            caller.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent = encode(b"abc")
            for begin in range(len(sent)):
                caller.send(sent[begin : begin + 1])
                await asyncio.sleep(0.001)
            assert (await caller.read()).status == 200
            assert server.got[0].body == b"abc"
            for piece in (b"GET /x HTTP/1.1\r\nHost: h\r", b"\nA: b", b"\n"):
                caller.send(piece)
                await asyncio.sleep(0.02)
            assert (await caller.read()).status == 400  # at once: there is no end of the head yet

    run(scenario())


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        (b"GET /x HTTP/1.0\r\n\r\n", "localhost"),
        (b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n", "a"),
        (b"GET http://b.example:80/x HTTP/1.1\r\nHost: a\r\n\r\n", "b.example:80"),
        (b"GET HTTPS://[fd00::1]/x HTTP/1.0\r\n\r\n", "[fd00::1]"),
    ],
)
def test_servers_are_told_one_host(rig: Rig, sent: bytes, host: str) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply()) as (gateway, server):
            caller = await gateway.call()
            caller.send(sent)
            assert (await caller.read()).status == 200
            [got] = server.got
            assert (got.line, got.fields("host")) == ("GET /x HTTP/1.1", [host])

    run(scenario())
