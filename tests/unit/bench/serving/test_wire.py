"""Each way in which a request can fail has its name, and no answer is taken for that to another request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.bench.serving.wire import Answer, Client, Failure, encode
from tests.unit.bench.serving.servers import Request, Server, echo, send, send_stream, serve


def ask(server: Server, number: int = 1, seconds: float = 10, reuse: bool = True) -> list[Answer | Failure]:
    """So many requests, one after the other."""

    async def one(client: Client) -> Answer | Failure:
        try:
            return await client.ask(encode("h", "/p", b'{"a": 1}', {"X-Key": "k"}))
        except Failure as failure:
            return failure

    async def main() -> list[Answer | Failure]:
        client = Client("127.0.0.1", server.port, seconds, reuse)
        try:
            answers = []
            for _ in range(number):
                answers.append(await one(client))
                await asyncio.sleep(0.01)  # for what the server does afterwards
            return answers
        finally:
            client.close()

    return asyncio.run(main())


def fail(answer: Callable[[Request, asyncio.StreamWriter], Awaitable[None]], seconds: float = 10) -> Failure:
    with serve(answer) as server:
        (failure,) = ask(server, seconds=seconds)
    assert isinstance(failure, Failure)
    return failure


def test_requests_follow_each_other_on_one_connection() -> None:
    with serve() as server:
        answers = ask(server, 5)
    assert [answer.body for answer in answers if isinstance(answer, Answer)] == [b'{"a": 1}'] * 5
    assert server.connections == 1
    assert (server.requests[0].path, server.requests[0].headers["x-key"]) == ("/p", "k")


def test_without_reuse_each_request_has_its_connection() -> None:
    with serve() as server:
        ask(server, 5, reuse=False)
    assert server.connections == 5


def test_a_chunked_answer_keeps_the_order_of_times_and_pieces() -> None:
    pieces = [b"data: a\n\n", b"data: b\n\n", b"data: c\n\n"]

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await send_stream(writer, pieces)

    with serve(answer) as server:
        first, again = ask(server, 2)
    assert isinstance(first, Answer) and isinstance(again, Answer)
    assert first.body == again.body == b"".join(pieces)
    times = [time for time, _ in first.pieces]
    assert first.first <= times[0] and times == sorted(times) and times[-1] <= first.last


def test_an_answer_in_single_bytes_is_whole() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    with serve(answer) as server:
        (got,) = ask(server)
    assert isinstance(got, Answer) and (got.status, got.body) == (200, b"abc")


def test_a_status_is_an_answer() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        send(request, writer, {"detail": "full"}, status=503)

    with serve(answer) as server:
        (got,) = ask(server)
    assert isinstance(got, Answer) and got.status == 503


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        (failure,) = ask(Server(echo, port=unused.getsockname()[1]))
    assert isinstance(failure, Failure) and failure.kind == "refused"


def test_closed_before_and_within_an_answer() -> None:
    async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def torn(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\nabc")
        await writer.drain()
        writer.close()

    async def torn_stream(request: Request, writer: asyncio.StreamWriter) -> None:
        await send_stream(writer, [b"data: [DONE]\n\n"], end=False)
        writer.close()

    before, within, stream = fail(silent), fail(torn), fail(torn_stream)
    assert (before.kind, within.kind, stream.kind) == ("reset",) * 3
    assert before.words == "closed by the server before the first byte of an answer"
    assert within.words == "closed by the server after 3 bytes of its body"


def test_an_answer_that_does_not_come_or_does_not_end() -> None:
    async def never(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(20)

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        await send_stream(writer, [b"x"], end=False)
        await asyncio.sleep(20)

    never_came, did_not_end = fail(never, seconds=0.1), fail(endless, seconds=0.1)
    assert (never_came.kind, did_not_end.kind) == ("timeout", "timeout")
    assert "not a byte had come" in never_came.words
    assert "it had begun" in did_not_end.words


def test_the_time_limit_is_each_requests_own() -> None:
    """A connection's timer that was set for one request must not end a later one, nor forget it."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4 if request.number < 4 else 20)
        send(request, writer, {})

    with serve(answer) as server:
        *good, last = ask(server, 5, seconds=1)
    assert all(isinstance(answer, Answer) for answer in good)
    assert isinstance(last, Failure) and last.kind == "timeout"
    assert server.connections == 1


def test_no_http_is_a_wrong_answer() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    failure = fail(answer)
    assert failure.kind == "wrong" and "SSH-2.0" in failure.words


@pytest.mark.parametrize("with_body", [True, False])
def test_a_second_answer_to_one_request_is_nobodys(with_body: bool) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        send(request, writer, {"n": request.number})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (3 if with_body else 0))
        writer.write(b"old" if with_body else b"")

    with serve(answer) as server:
        answers = ask(server, 3)
    bodies = [answer.body for answer in answers if isinstance(answer, Answer)]
    assert bodies == [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']
    assert server.connections == 3


def test_a_connection_that_was_closed_while_free_fails_no_request() -> None:
    async def once(request: Request, writer: asyncio.StreamWriter) -> None:
        send(request, writer, {})
        await writer.drain()
        writer.close()

    async def announced(request: Request, writer: asyncio.StreamWriter) -> None:
        send(request, writer, {}, headers="connection: close\r\n")

    for answer in (once, announced):
        with serve(answer) as server:
            answers = ask(server, 3)
        assert all(isinstance(answer, Answer) for answer in answers)
        assert server.connections == 3
