"""Answers are kept where a question has one answer, and never longer than they are true."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelyard.contract.gateway import CacheConfig
from modelyard_gateway.balance.servers import Target
from modelyard_gateway.cache import store
from modelyard_gateway.cache.key import LONGEST, make_key
from modelyard_gateway.cache.store import Cache
from modelyard_gateway.proxy.exchange import Exchange
from modelyard_gateway.wire.request import Reader
from modelyard_gateway.wire.response import read_response

from tests.unit.gateway.rig import Answer, Gateway, Handler, Request, Rig, encode, reply, run
from tests.unit.gateway.test_limits import mount

CACHE = {"max_entries": 100, "ttl_seconds": 60}
INFER = "/v2/models/m/infer"
CHAT = "/v1/chat/completions"


def key(
    body: bytes, path: str = INFER, method: str = "POST", fields: str = "", task: str | None = None
) -> bytes | None:
    head = encode(b"", path, fields, method)
    return make_key(Reader()(head)[0], body, task)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def shuffle(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shuffle(value[name]) for name in reversed(value)}
    return [shuffle(item) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_order_of_names_and_white_space_make_no_difference(request: dict[str, Any]) -> None:
    try:
        plain = json.dumps(request).encode()
        spaced = json.dumps(shuffle(request), indent=3, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return  # half a character
    assert key(plain) == key(spaced)


@given(json_values, json_values)
def test_what_differs_otherwise_has_another_key(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    keys = [key(json.dumps({"inputs": value}).encode()) for value in (one, other)]
    if None not in keys:
        assert (keys[0] == keys[1]) == same


@pytest.mark.parametrize(
    ("path", "request_", "task", "kept"),
    [
        (INFER, {}, None, True),
        (INFER, {}, "text-classification", True),
        (INFER, {}, "text-generation", False),
        ("/v2/models/m/versions/3/infer", {}, None, True),
        (INFER + "?a=b", {}, None, True),
        ("/v2/models/m/generate", {}, None, False),
        ("/v1/embeddings", {"input": "a"}, None, True),
        (CHAT, {"messages": []}, None, False),
        (CHAT, {"messages": [], "temperature": 0}, None, True),
        (CHAT, {"messages": [], "temperature": 0.0, "stream": False}, None, True),
        (CHAT, {"messages": [], "temperature": 0, "stream": True}, None, False),
        (CHAT, {"messages": [], "temperature": False}, None, False),
        (CHAT, {"messages": [], "temperature": "0"}, None, False),
        (CHAT, {"messages": [], "temperature": 0.1, "seed": 1}, None, False),
        ("/v1/completions", {"prompt": "a", "temperature": 0}, None, True),
        ("/predict", {}, None, False),
    ],
)
def test_only_calls_with_one_answer_are_kept(path: str, request_: Any, task: str | None, kept: bool) -> None:
    assert (key(json.dumps(request_).encode(), path, task=task) is not None) == kept


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"{",
        b'{"a": NaN}',
        b"\xff",
        b'{"a": "' + b"x" * LONGEST + b'"}',
        b'{"a": 1, "a": 2}',
        b'{"b": [{"a\\"": 1, "a\\"": 1}]}',
        rb'{"a": "\u003a", "b": 1, "b": 2}',
        b'{"a": 18446744073709551617}',
        b'{"a": [-9223372036854775809]}',
    ],
)
def test_what_is_no_short_json_object_of_one_meaning_is_not_kept(body: bytes) -> None:
    assert key(body) is None


def test_colons_and_digits_in_texts_are_no_reason() -> None:
    assert key(rb'{"a": "\"b\": 12345678901234567890 \\", "c:d": [1.5, 9007199254740993]}') is not None


def test_compressed_requests_and_other_methods_are_not_kept() -> None:
    assert key(b"{}", fields="Content-Encoding: gzip\r\n") is None
    assert key(b"{}", method="GET") is None


def put(cache: Cache, name: bytes, body: bytes = b"x", head: bytes = b"") -> None:
    flight = cache.begin(("r", name), cast(Exchange, None), True)
    flight.begin(read_response(b"HTTP/1.1 200 OK\r\n%b\r\n" % head))
    flight.add([body])
    cache.land(flight, "r")


def test_an_answer_is_kept_for_its_time_and_the_one_unused_for_longest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    cache = Cache(CacheConfig(max_entries=2, ttl_seconds=10), lambda: now[0])
    put(cache, b"a")
    put(cache, b"b")
    assert cache.find(("r", b"a"))
    put(cache, b"c")
    assert [bool(cache.find(("r", name))) for name in (b"a", b"b", b"c")] == [True, False, True]
    now[0] = 9.9
    assert cache.find(("r", b"a"))
    now[0] = 10.0
    assert not cache.find(("r", b"a"))
    assert len(cache) == 1
    put(cache, b"c", head=b"cache-control: max-age=3\r\n")
    now[0] = 12.9
    assert cache.find(("r", b"c"))
    now[0] = 13.0
    assert not cache.find(("r", b"c"))
    monkeypatch.setattr(store, "LARGEST", 1000)
    put(cache, b"d", b"x" * 1000)
    assert (len(cache), cache.bytes) == (1, 1000)
    put(cache, b"d", b"x" * 10)
    assert (len(cache), cache.bytes) == (1, 10)
    cache.keep_only({"other"})
    assert (len(cache), cache.bytes) == (0, 0)


@pytest.mark.parametrize(
    "head",
    [
        b"cache-control: no-store\r\n",
        b"Cache-Control: max-age=5, private\r\n",
        b"cache-control: no-cache\r\n",
        b"cache-control: private=x\r\n",
        b"cache-control: max-age=0\r\n",
        b"cache-control: max-age=9, s-maxage=0\r\n",
        b"cache-control: max-age=x\r\n",
        b"set-cookie: a=b\r\n",
        b"vary: accept\r\n",
        b"content-type: text/event-stream; charset=utf-8\r\n",
    ],
)
def test_answers_that_are_for_one_caller_and_streams_are_not_kept(head: bytes) -> None:
    cache = Cache(CacheConfig(max_entries=2, ttl_seconds=10))
    put(cache, b"a", head=head)
    assert not cache.find(("r", b"a"))
    put(cache, b"b", head=b"cache-control: public\r\n")
    assert cache.find(("r", b"b"))
    put(cache, b"a", b"x" * (store.LONGEST_ANSWER + 1))
    assert not cache.find(("r", b"a"))


def counting(delay: float = 0.0) -> Handler:
    """Answers with how often it was asked."""
    count = 0

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await reply(b"%d" % count, delay=delay)(request, writer)

    return handle


def seen(answer: Answer) -> tuple[bytes, str | None]:
    return answer.body, answer.fields.get("x-modelyard-cache")


def test_the_second_of_two_equal_questions_has_the_first_ones_answer(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(counting(), cache=CACHE) as (gateway, _):
            assert seen(await gateway.ask(b'{"a": 1, "b": [2]}')) == (b"1", "miss")
            hit = await gateway.ask(b'{"b":[2],"a":1}', fields="X-Request-Id: other\r\n")
            assert seen(hit) == (b"1", "hit")
            assert hit.fields["content-type"] == "application/json"
            assert hit.fields["x-request-id"] == "other"
            assert seen(await gateway.ask(b'{"a": 2}')) == (b"2", "miss")
            assert seen(await gateway.ask(b"{}", path="/x")) == (b"3", None)
            assert seen(await gateway.ask(b'{"a": 1, "b": [2]}', fields="Cache-Control: no-store\r\n")) == (
                b"4",
                None,
            )
            assert seen(await gateway.ask(b'{"a": 1, "b": [2]}')) == (b"1", "hit")
            assert seen(await gateway.ask(b'{"a": 1, "b": [2]}', fields="Cache-Control: no-cache\r\n")) == (
                b"5",
                "miss",
            )
            assert seen(await gateway.ask(b'{"a": 1, "b": [2]}')) == (b"5", "hit")
            for number, fields in (
                (6, "Cache-Control: max-age=0\r\n"),
                (7, "cache-control: a, Max-Age=0\r\n"),
            ):
                answer = await gateway.ask(b'{"a": 1, "b": [2]}', fields=fields)
                assert seen(answer) == (b"%d" % number, "miss")
            assert seen(await gateway.ask(b'{"a": 1, "b": [2]}', fields="Cache-Control: max-age=9\r\n")) == (
                b"7",
                "hit",
            )
            assert gateway.process.metrics.cache == {"hit": 4, "miss": 5, "shared": 0}
            assert gateway.load == (0, 0)
            assert {line["revision"] for line in gateway.lines()} == {"r1"}

    run(scenario())


def test_without_a_cache_nothing_is_kept(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(counting()) as (gateway, _):
            assert [seen(await gateway.ask()) for _ in range(2)] == [(b"1", None), (b"2", None)]

    run(scenario())


def test_only_good_answers_are_kept(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"no", 400), cache=CACHE) as (gateway, server):
            assert seen(await gateway.ask()) == (b"no", "miss")
            server.handle = reply(b"yes")
            assert [seen(await gateway.ask()) for _ in range(2)] == [(b"yes", "miss"), (b"yes", "hit")]

    run(scenario())


def test_kept_answers_need_no_server(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(counting(), cache=CACHE) as (gateway, _server):
            await gateway.ask()
            gateway.serve()
            assert seen(await gateway.ask()) == (b"1", "hit")
            assert gateway.load == (0, 0)

    run(scenario())


def test_a_new_revision_answers_anew_also_when_the_old_one_comes_back(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(counting(), cache=CACHE) as (gateway, server):
            assert [seen(await gateway.ask()) for _ in range(2)] == [(b"1", "miss"), (b"1", "hit")]
            gateway.serve_all({"r1": (0, 0, (server,)), "r2": (100, 0, (server,))})
            assert [seen(await gateway.ask()) for _ in range(2)] == [(b"2", "miss"), (b"2", "hit")]
            gateway.serve(server)
            assert seen(await gateway.ask()) == (b"3", "miss")

    run(scenario())


def test_an_answer_belongs_to_the_revision_that_gave_it(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"old"), reply(b"new"), cache=CACHE) as (gateway, old, new):
            old.kill()  # the new one answers for it
            gateway.serve_all({"r1": (50, 0, (old,)), "r2": (50, 0, (new,))})
            for _ in range(6):
                assert (await gateway.ask()).body == b"new"
            await old.start()
            await asyncio.sleep(0.6)  # it rests after failing
            answers = [seen(await gateway.ask()) for _ in range(40)]
            assert sorted({body for body, _ in answers}) == [b"new", b"old"]
            assert sum(body == b"old" for body, _ in answers) == 20
            assert (b"old", "hit") in answers

    run(scenario())


async def ask_together(gateway: Gateway, many: int) -> list[Answer]:
    return list(await asyncio.gather(*(gateway.ask() for _ in range(many))))


def test_equal_questions_at_once_are_asked_once(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(counting(delay=0.1), cache=CACHE) as (gateway, server):
            answers = await ask_together(gateway, 20)
            assert {answer.body for answer in answers} == {b"1"}
            assert sorted(answer.fields["x-modelyard-cache"] for answer in answers) == ["hit"] * 19 + ["miss"]
            assert len(server.got) == 1

    run(scenario())


def test_where_the_first_gets_no_answer_that_can_be_kept_the_others_ask_for_themselves(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"no", 500, delay=0.1), cache=CACHE) as (gateway, server):
            assert {answer.status for answer in await ask_together(gateway, 5)} == {500}
            assert len(server.got) == 5
            assert gateway.load == (0, 0)

    run(scenario())


def test_where_the_first_hangs_up_another_asks_for_the_rest(rig: Rig) -> None:
    async def scenario() -> None:
        gate = asyncio.Event()

        async def hold(request: Request, writer: asyncio.StreamWriter) -> None:
            number = len(server.got)
            await gate.wait()
            await reply(b"%d" % number)(request, writer)

        async with rig.gateway(hold, cache=CACHE) as (gateway, server):
            first = await gateway.call()
            first.send(encode())
            await gateway.until(lambda: len(server.got) == 1)
            others = asyncio.ensure_future(ask_together(gateway, 5))
            await gateway.until(lambda: gateway.process.front.cache.waiting == 5)
            first.close()
            await gateway.until(lambda: len(server.got) == 2)
            gate.set()
            assert {answer.body for answer in await others} == {b"2"}
            assert gateway.process.metrics.cache == {"hit": 0, "miss": 2, "shared": 4}
            assert gateway.process.front.cache.waiting == 0
            assert len(server.got) == 2
            assert gateway.load == (0, 0)

    run(scenario())


def test_where_the_first_makes_servers_fall_the_others_do_not_fell_two_each(rig: Rig) -> None:
    async def scenario() -> None:
        most = now = 0
        gate = asyncio.Event()

        async def fall(request: Request, writer: asyncio.StreamWriter) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await gate.wait()
            await asyncio.sleep(0.02)
            now -= 1
            writer.transport.abort()

        async with rig.gateway(*[fall] * 4, cache=CACHE) as (gateway, *servers):
            asked = asyncio.ensure_future(ask_together(gateway, 10))
            await gateway.until(lambda: gateway.process.front.cache.waiting == 9)
            gate.set()
            assert {answer.status for answer in await asked} == {502}
            assert most == 1
            assert sum(len(server.got) for server in servers) == 2 + 9
            assert (gateway.load, gateway.process.front.cache.waiting) == ((0, 0), 0)

    run(scenario())


def test_where_the_first_has_no_answer_in_time_one_of_those_with_time_left_asks_for_the_rest(
    rig: Rig,
) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(delay=60), cache=CACHE, timeout_seconds=1.5) as (gateway, server):
            first = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: len(server.got) == 1)
            await asyncio.sleep(0.5)
            assert {answer.status for answer in await ask_together(gateway, 19)} == {504}
            assert (await first).status == 504
            assert len(server.got) == 2
            assert (gateway.load, gateway.process.front.cache.waiting) == ((0, 0), 0)

    run(scenario())


def test_where_the_first_is_turned_away_while_too_many_wait_so_are_the_others(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(delay=60), cache=CACHE, max_queue=1000) as (gateway, server):
            first = await gateway.call()
            first.send(encode())
            await gateway.until(lambda: len(server.got) == 1)
            others = asyncio.ensure_future(ask_together(gateway, 300))
            await gateway.until(lambda: gateway.process.front.cache.waiting == 300)
            gateway.serve()
            gateway.process.dispatcher._max_queue = 0
            first.close()
            assert {answer.status for answer in await others} == {503}
            assert gateway.process.front.cache.waiting == 0

    run(scenario())


def test_a_gateway_that_ends_sends_away_those_who_wait_for_anothers_answer_too(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(cache=CACHE) as (gateway,):
            gateway.serve()
            asked = asyncio.ensure_future(ask_together(gateway, 4))
            await gateway.until(lambda: gateway.process.front.cache.waiting == 3)
            gateway.process.dispatcher.end_line()
            assert gateway.load == (0, 0)
            assert ["the gateway stops" in answer.json()["error"] for answer in await asked] == [True] * 4

    run(scenario())


def test_those_who_wait_for_one_answer_are_sent_away_in_as_many_steps(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    leave = Cache.leave

    def count(cache: Cache, exchange: Exchange) -> None:
        nonlocal steps
        steps += 1
        leave(cache, exchange)

    monkeypatch.setattr(Cache, "leave", count)

    async def scenario() -> None:
        async with rig.gateway(cache=CACHE) as (gateway,):
            gateway.serve()
            asked = asyncio.ensure_future(ask_together(gateway, 100))
            await gateway.until(lambda: gateway.process.front.cache.waiting == 99)
            gateway.process.dispatcher.end_line()
            assert {answer.status for answer in await asked} == {503}
            assert steps == 99

    run(scenario())


def test_those_who_waited_for_one_that_hangs_up_keep_its_place_in_line(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(b"own", delay=0.05), cache=CACHE) as (gateway, server):
            gateway.serve()
            callers = []
            for number, body in enumerate([b'{"a": 1}', b'{"a": 1}', b'{"b": 1}', b'{"a": 1}']):
                callers.append(await gateway.call())
                callers[-1].send(encode(body))
                await gateway.until(
                    lambda wanted=number + 1: gateway.load[0] + gateway.process.front.cache.waiting == wanted
                )
            callers[0].close()
            await gateway.until(lambda: gateway.process.front.cache.waiting == 1)
            gateway.serve(server, concurrency=1)
            assert [(await caller.read()).body for caller in callers[1:]] == [b"own"] * 3
            assert [request.body for request in server.got] == [b'{"a": 1}', b'{"b": 1}']

    run(scenario())


def test_whoever_waits_for_anothers_answer_may_hang_up_and_has_a_deadline(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(reply(delay=60), cache=CACHE, timeout_seconds=0.5) as (gateway, server):
            first = await gateway.call()
            first.send(encode())
            await gateway.until(lambda: len(server.got) == 1)
            second = await gateway.call()
            second.send(encode())
            await gateway.until(lambda: gateway.process.front.cache.waiting == 1)
            second.close()
            assert (await gateway.ask()).status == 504
            assert (await first.read()).status == 504
            await gateway.until(lambda: gateway.load == (0, 0))

    run(scenario())


@pytest.mark.parametrize("field", ["Authorization: Bearer right", "Cookie: a=b", "X-Api-Key: right"])
def test_who_is_known_to_the_servers_has_an_answer_of_its_own(rig: Rig, field: str) -> None:
    async def scenario() -> None:
        async def check(request: Request, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.05)
            right = request.fields(field.partition(":")[0].lower())
            await reply(b"for you" if right else b"no", 200 if right else 401)(request, writer)

        async with rig.gateway(check, cache=CACHE) as (gateway, server):
            first = asyncio.ensure_future(gateway.ask(fields=f"{field}\r\n"))
            await gateway.until(lambda: len(server.got) == 1)
            assert (await gateway.ask()).status == 401  # not shared
            assert seen(await first) == (b"for you", None)
            assert (await gateway.ask()).status == 401  # not kept

    run(scenario())


def test_the_gateways_own_keys_are_no_reason_to_ask_anew(rig: Rig) -> None:
    async def scenario() -> None:
        mount(rig.folder / "keys", "..v1", alice="a", bob="b")
        async with rig.gateway(counting(), cache=CACHE, keys=True) as (gateway, _):
            for name in "ab":
                assert (await gateway.ask(fields=f"Authorization: Bearer {name}\r\n")).body == b"1"

    run(scenario())


def test_no_more_wait_for_anothers_answer_than_may_wait(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(cache=CACHE, max_queue=5, timeout_seconds=1.5) as (gateway,):
            gateway.serve()
            first = asyncio.ensure_future(gateway.ask())
            await gateway.until(lambda: gateway.load == (1, 0))
            answers = await ask_together(gateway, 30)
            answers.append(await first)
            assert {answer.status for answer in answers} == {503}
            # Whoever waits for one that waits for a server waits for a server.
            waited = [answer for answer in answers if "no server became ready" in answer.json()["error"]]
            assert {answer.fields["retry-after"] for answer in waited} == {"5"}
            assert len(waited) == 5
            assert gateway.process.front.cache.waiting == 0

    run(scenario())


def test_a_model_that_generates_is_known_by_its_servers(rig: Rig) -> None:
    async def scenario() -> None:
        async with rig.gateway(counting(), cache=CACHE) as (gateway, server):
            target = Target(100, 0, frozenset({("127.0.0.1", server.port)}), "text-generation")
            gateway.process.take({"r1": target})
            assert [(await gateway.ask()).body for _ in range(2)] == [b"1", b"2"]
            told = (await gateway.ask(path="/-/status", method="GET")).json()
            assert told["task"] == "text-generation"

    run(scenario())
