"""Loads are what they are said to be: so many at once, due when they are due, judged, and none left out."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from tests.bench.serving.load import Closed, Generator, Open, Plan, Result, arrivals, order_cases
from tests.bench.serving.protocols import Case, OpenAIGeneration, Plain
from tests.unit.bench.serving.servers import Request, Server, send, serve

CASES = [Case({"n": number}, {"n": number}) for number in range(10)]


def put(
    server: Server, load: Closed | Open, cases: list[Case] = CASES, stop_after: float | None = None
) -> Result:
    async def main() -> Result:
        generator = Generator(Plan(server.target, Plain("/"), cases, load, seed=3))
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, generator.stopped.set)
        return await generator.run(time.monotonic())

    return asyncio.run(main())


def rows(result: Result, *names: str) -> list[tuple[float, ...]]:
    return list(zip(*(result.samples.column(name) for name in names), strict=True))


async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.01)
    send(request, writer, request.body)


def test_poisson_arrivals_have_exponential_gaps_and_counts_as_spread_as_their_mean() -> None:
    for seed in range(5):
        due = np.array(list(itertools.islice(arrivals(Open(rate=50), seed), 20_000)))
        assert stats.kstest(np.diff(due), "expon", args=(0, 1 / 50)).pvalue > 0.01
        counts = np.bincount(due.astype(int))[:-1]
        assert 0.8 < counts.var() / counts.mean() < 1.25
        # Gaps know nothing of each other.
        assert abs(np.corrcoef(np.diff(due)[1:], np.diff(due)[:-1])[0, 1]) < 0.03


def test_arrivals_and_order_are_the_seeds() -> None:
    load = Open(rate=50)
    first, again, other = (list(itertools.islice(arrivals(load, seed), 100)) for seed in (1, 1, 2))
    assert first == again != other
    assert list(itertools.islice(order_cases(10, 1), 30)) == list(itertools.islice(order_cases(10, 1), 30))
    even = itertools.islice(arrivals(Open(rate=4, poisson=False), 1), 5)
    assert list(even) == [0, 0.25, 0.5, 0.75, 1.0]


def test_every_case_comes_once_before_any_comes_again() -> None:
    order = list(itertools.islice(order_cases(7, 1), 21))
    assert all(sorted(order[at : at + 7]) == list(range(7)) for at in (0, 7, 14))


def test_processes_share_the_same_requests_at_the_same_times() -> None:
    plan = Plan(Server(slow).target, Plain("/"), CASES, Open(rate=100), seed=3)

    async def main() -> None:
        alone = Generator(plan)
        shares = [Generator(plan, index, 3) for index in range(3)]
        whole = list(itertools.islice(alone._share(arrivals(plan.load, 3)), 30))  # type: ignore[arg-type]
        parts = [list(itertools.islice(one._share(arrivals(plan.load, 3)), 10)) for one in shares]  # type: ignore[arg-type]
        assert sorted(itertools.chain(*parts)) == whole

    asyncio.run(main())


@pytest.mark.parametrize("clients", [1, 8])
def test_a_closed_loop_has_so_many_requests_under_way(clients: int) -> None:
    all_here = asyncio.Event()

    async def wait_for_all(request: Request, writer: asyncio.StreamWriter) -> None:
        if server.busy == clients:
            all_here.set()
        await all_here.wait()
        await slow(request, writer)

    with serve(wait_for_all) as server:
        result = put(server, Closed(clients, seconds=0.4, warm=0.1))
    assert server.at_once == clients == server.connections
    assert len(result.samples) == len(server.requests) >= clients
    assert result.samples.failures == []
    start, end = result.window
    assert end - start == pytest.approx(0.4)


def test_a_closed_loop_of_a_number_of_requests_measures_exactly_these() -> None:
    with serve(slow) as server:
        result = put(server, Closed(4, requests=50, warm=0.1))
    start, end = result.window
    measured = [sample for sample in rows(result, "intended", "ended") if sample[0] >= start]
    assert len(measured) == 50
    assert len(server.requests) == len(result.samples) > 50
    assert max(ended for _, ended in measured) <= end


def test_samples_hold_between_what_the_server_saw() -> None:
    """Received and answered, by the server's own clock readings, lie between the client's sent and ended."""
    with serve(slow) as server:
        result = put(server, Closed(1, requests=30, warm=0))
    seen = [(request.body["n"], request.received, request.answered) for request in server.requests]
    for (case, sent, first, ended), (number, received, answered) in zip(
        rows(result, "case", "sent", "first", "ended"), seen, strict=True
    ):
        assert case == number
        assert sent <= received <= answered <= first <= ended
        assert ended - sent >= 0.0099


def test_a_stall_is_in_the_latency_of_all_that_was_due_meanwhile() -> None:
    """No coordinated omission: a server that stands still for 0.3 s is asked all the same, and later is no excuse."""
    stalled: list[float] = []

    async def stall(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.number == 10:
            time.sleep(0.3)  # noqa: ASYNC251 - all of the server stands still
            stalled.append(time.monotonic())
        send(request, writer, request.body)

    with serve(stall) as server:
        result = put(server, Open(rate=200, seconds=1.0, warm=0))
    start, _ = result.window
    expected = list(itertools.takewhile(lambda due: due < 1.0, arrivals(Open(200), 3)))
    due = sorted(result.samples.column("intended"))
    assert np.allclose(np.array(due) - start, expected, atol=1e-9)
    assert len(server.requests) == len(due)
    hit = [s for s in rows(result, "intended", "ended") if stalled[0] - 0.3 < s[0] < stalled[0] - 0.01]
    assert len(hit) > 5
    assert all(ended >= stalled[0] for _, ended in hit)


def test_an_open_loop_waits_for_room_but_counts_from_when_requests_were_due() -> None:
    with serve(slow) as server:
        result = put(server, Open(rate=400, seconds=0.3, warm=0, most=1))
    assert server.at_once == 1
    assert len(server.requests) == len(result.samples)
    late = [sent - due for due, sent in rows(result, "intended", "sent")]
    # 100 requests/s get through, 400 are due: the queue grows from one to the next.
    assert late[-1] > 0.3 and all(at >= 0 for at in late)


def test_a_load_that_is_told_to_stop_sends_no_more_and_ends_what_is_under_way() -> None:
    with serve(slow) as server:
        result = put(server, Open(rate=100, seconds=None, poisson=False, warm=0), stop_after=0.3)
        closed = put(server, Closed(2, seconds=60, warm=0), stop_after=0.2)
    assert len(result.samples) + len(closed.samples) == len(server.requests)
    assert max(result.samples.column("intended")) <= result.window[1]
    assert closed.samples.failures == []
    gaps = np.diff(sorted(result.samples.column("intended")))
    assert np.allclose(gaps, 0.01, atol=1e-9)


def test_every_answer_is_judged_also_after_a_right_one() -> None:
    async def once_in_a_while_wrong(request: Request, writer: asyncio.StreamWriter) -> None:
        wrong, full = request.number % 10 == 5, request.number % 10 == 7
        send(request, writer, {"n": -1} if wrong else request.body, status=503 if full else 200)

    with serve(once_in_a_while_wrong) as server:
        result = put(server, Closed(1, requests=40, warm=0))
    kinds = Counter(result.samples.column("kind"))
    assert kinds == {0: 32, 1: 4, 5: 4}
    _, kind, words = result.samples.failures[0]
    assert (kind, words) == ("wrong", f"answer.n is -1, expected {server.requests[5].body['n']} within 0.001")
    assert result.samples.failures[1][1:] == ("status", f'503: {{"n": {server.requests[7].body["n"]}}}')


def test_an_answer_that_nobody_thought_of_is_a_wrong_one() -> None:
    async def odd(request: Request, writer: asyncio.StreamWriter) -> None:
        send(
            request,
            writer,
            {
                "choices": [{"message": {"content": 3}, "finish_reason": "stop"}],
                "usage": {"completion_tokens": "x"},
            },
        )

    protocol = OpenAIGeneration("m", stream=False)
    with serve(odd) as server:
        plan = Plan(server.target, protocol, [Case({}, None)], Closed(1, requests=3, warm=0))

        async def main() -> Result:
            return await Generator(plan).run(time.monotonic())

        result = asyncio.run(main())
    assert list(result.samples.column("kind")) == [5.0] * 3
    assert "it can't be judged (ValueError" in result.samples.failures[0][2]


def test_own_cpu_is_what_the_process_used_in_the_window() -> None:
    with serve(slow) as server:
        before, began = time.process_time(), time.monotonic()
        result = put(server, Closed(4, seconds=0.3, warm=0.1))
        used, took = time.process_time() - before, time.monotonic() - began
    (own,) = result.own
    assert 0 < own.cpu <= used
    assert 0 < own.seconds <= took
    assert own.waited >= 0


def test_a_load_without_cases_is_refused() -> None:
    with serve() as server, pytest.raises(ValueError, match="at least one case"):
        put(server, Closed(1, seconds=0.1), cases=[])
