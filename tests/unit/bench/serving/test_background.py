"""A load behind a test says at its end exactly what was sent and what failed."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time

import pytest

from tests.bench.serving.background import ConstantLoad, Report
from tests.bench.serving.load import order_cases
from tests.bench.serving.protocols import Case, Plain
from tests.unit.bench.serving.servers import Request, Server, echo, send, serve

CASES = [Case({"n": number}, {"n": number}) for number in range(10)]


def load(server: Server, rate: float = 100) -> ConstantLoad:
    return ConstantLoad(server.target, Plain("/"), CASES, rate)


class Unwell:
    """Refuses the request that is due as 4th with 503, closes the 6th, and answers the 8th wrongly."""

    def __init__(self) -> None:
        order = list(itertools.islice(order_cases(len(CASES), 0), len(CASES)))
        self.left = {order[3]: "full", order[5]: "close", order[7]: "wrong"}

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        does = self.left.pop(request.body["n"], "")
        if does == "close":
            writer.close()
        else:
            send(
                request,
                writer,
                {"n": -1} if does == "wrong" else request.body,
                503 if does == "full" else 200,
            )


def test_all_that_was_sent_is_told() -> None:
    with serve() as server:
        with load(server) as running:
            with pytest.raises(RuntimeError, match="still runs"):
                _ = running.report
            time.sleep(0.5)
        seen = len(server.requests)
    report = running.report
    assert report.sent == seen > 0 and report.failed == 0 and report.failures == ()
    assert report.latencies["p50 ms"] <= report.latencies["max ms"]
    assert report.seconds >= 0.4
    report.check()


def test_no_more_is_sent_than_the_rate_says() -> None:
    with serve() as server, load(server, rate=50) as running:
        time.sleep(0.6)
    # One is due at the begin and then one each 20 ms; none before its time.
    assert 1 < running.report.sent <= int(running.report.seconds * 50) + 1


def test_failures_are_told_in_words_with_their_times() -> None:
    with serve(Unwell()) as server:
        with load(server) as running:
            while len(server.requests) < 10:
                time.sleep(0.01)
        seen = len(server.requests)
    report = running.report
    assert (report.sent, report.failed) == (seen, 3)
    full, closed, wrong = report.failures
    assert "UTC): status: 503" in full and full.startswith("at 0.03 s (")
    assert "reset: closed by the server before the first byte" in closed and closed.startswith("at 0.05 s")
    assert "wrong: answer.n is -1" in wrong and wrong.startswith("at 0.07 s")
    with pytest.raises(AssertionError, match=r"(?s)3 failed; p50 ms .*503.*reset.*wrong"):
        report.check()


def test_from_asynchronous_tests_whose_loop_goes_on() -> None:
    async def main(server: Server) -> Report:
        async with load(server) as running:
            await asyncio.sleep(0.2)
        return running.report

    with serve() as server:
        report = asyncio.run(main(server))
        assert report.sent == len(server.requests) > 0


def test_a_load_that_is_ended_at_once_ends() -> None:
    with serve() as server:
        for _ in range(3):
            with load(server) as running:
                pass
            assert running.report.sent <= 1


def test_what_is_under_way_at_the_end_is_waited_for() -> None:
    async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        send(request, writer, request.body)

    with serve(slow) as server:
        with load(server, rate=20) as running:
            time.sleep(0.3)
        assert running.report.sent == len(server.requests)
        running.report.check()


def test_a_failing_test_hears_of_the_load_too() -> None:
    with serve(Unwell()) as server, pytest.raises(ZeroDivisionError) as told:  # noqa: SIM117
        with load(server):
            while len(server.requests) < 10:
                time.sleep(0.01)
            raise ZeroDivisionError
    assert "3 failed" in told.value.__notes__[0]


def test_a_server_that_is_gone_for_a_while_fails_what_was_due_meanwhile() -> None:
    with serve() as server, load(server, rate=50) as running:
        while len(server.requests) < 5:
            time.sleep(0.01)
        server.answer = unwell_for_good
        time.sleep(0.3)
        server.answer = echo
        before = len(server.requests)
        while len(server.requests) < before + 5:
            time.sleep(0.01)
    report = running.report
    assert report.sent == len(server.requests)
    assert 0 < report.failed < report.sent
    assert all("reset" in words for words in report.failures)


async def unwell_for_good(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.close()


def test_a_load_that_sent_nothing_proves_nothing() -> None:
    empty = Report(sent=0, failed=0, failures=(), latencies={}, latest_ms=0, seconds=1)
    with pytest.raises(AssertionError, match="0 requests"):
        empty.check()
    many = dataclasses.replace(empty, sent=100, failed=30, failures=("at 1.00 s: …",))
    assert str(many).endswith("… and 29 more")
