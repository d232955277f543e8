"""Servers take turns, a wrong one has no median, and ratios are to the first."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bench.sections import Rows
from tests.bench.serving.comparison import (
    Contender,
    Limit,
    Serving,
    Setting,
    clients,
    compare,
    measure,
    medians,
)
from tests.bench.serving.load import Closed, Plan, Target
from tests.bench.serving.protocols import Case, Plain
from tests.unit.bench.serving.servers import Answer, Request, echo, send, serve

CASES = [Case({"n": number}, {"n": number}) for number in range(10)]
SHORT = [Setting({"clients": 2}, Closed(2, seconds=0.2, warm=0.05))]


def contender(name: str, answer: Answer, turns: list[str], pid: int | None = None) -> Contender:
    @contextmanager
    def start() -> Iterator[Serving]:
        turns.append(name)
        with serve(answer) as server:
            yield Serving(server.target, pid)
        turns.append(f"{name} ended")

    return Contender(name, start, Plain("/"), CASES)


async def slow(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.02)
    send(request, writer, request.body)


async def busy(request: Request, writer: asyncio.StreamWriter) -> None:
    end = time.thread_time() + 0.005
    while time.thread_time() < end:
        pass
    send(request, writer, request.body)


async def wrong(request: Request, writer: asyncio.StreamWriter) -> None:
    send(request, writer, {"n": 100})


def test_turns_medians_and_ratios() -> None:
    rows, turns = Rows(), list[str]()
    compare(rows, [contender("a", slow, turns), contender("b", echo, turns)], SHORT, rounds=3)
    assert turns == ["a", "a ended", "b", "b ended"] * 3
    assert [(row["round"], row["server"]) for row in rows[:6]] == [(n, s) for n in "123" for s in "ab"]
    assert [(row["round"], row["server"]) for row in rows[6:]] == [("median of 3", "a"), ("median of 3", "b")]
    a, b = rows[6:]
    rates = sorted(row["req/s"] for row in rows[:6] if row["server"] == "a")
    assert (a["req/s"], a["spread"]) == (rates[1], f"{rates[0]} to {rates[2]}")
    assert (a["req/s ratio"], a["clients"]) == (1.0, 2)
    assert b["req/s ratio"] == round(b["req/s"] / a["req/s"], 3) > 1
    assert rows.failures() == []


def test_a_fast_wrong_server_fails_and_has_no_median() -> None:
    rows = Rows()
    compare(rows, [contender("right", slow, []), contender("wrong", wrong, [])], SHORT, rounds=1)
    assert [row["server"] for row in rows] == ["right", "wrong", "right"]
    assert "expected" in rows[1]["error"] and rows[1]["failed"].keys() == {"wrong"}
    assert len(rows.failures()) == 1


def test_a_server_that_does_not_start_is_a_row_and_the_others_go_on() -> None:
    @contextmanager
    def never() -> Iterator[Serving]:
        if CASES:
            raise RuntimeError("no such module")
        yield Serving(Target("127.0.0.1", 0))

    rows = Rows()
    compare(rows, [Contender("a", never, Plain("/"), CASES), contender("b", slow, [])], SHORT, rounds=2)
    assert [row["server"] for row in rows] == ["a", "b", "a", "b", "b"]
    assert rows[0]["error"] == "RuntimeError: no such module"
    assert rows[4]["round"] == "median of 2" and "req/s ratio" not in rows[4]


# In a process of its own: that of the tests has children of other tests, which may end meanwhile.
_BUSY = """
import sys
from tests.unit.bench.serving.servers import serve
from tests.unit.bench.serving.test_comparison import busy

with serve(busy) as server:
    print(server.target.port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("load", [Closed(2, seconds=0.5, warm=0.1), Closed(2, requests=40, warm=0.1)])
def test_the_cpu_of_a_servers_processes_is_told_per_right_answer(load: Closed) -> None:
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", _BUSY], stdin=pipe, stdout=pipe, text=True)
    assert process.stdin is not None and process.stdout is not None
    target = Target("127.0.0.1", int(process.stdout.readline()))
    row = measure(Serving(target, process.pid), Plan(target, Plain("/"), CASES, load))
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    # /proc counts in steps of 10 ms.
    assert 5 * row["requests"] / 1e3 - 0.03 < row["CPU s"] < usage.ru_utime + usage.ru_stime + 0.03
    assert row["CPU ms/req"] > 4 and row["peak MiB"] > 10
    process.stdout.close()


def test_medians_keep_what_spoils_them() -> None:
    rows = [{"req/s": rate, "p50 ms": rate * 2, "server": "a"} for rate in (3.0, 1.0, 2.0)]
    assert medians(rows) == {"req/s": 2.0, "p50 ms": 4.0, "spread": "1.0 to 3.0"}
    rows[1]["bottleneck"] = "the load generator: 99% of a CPU, 0% waiting for one"
    assert medians(rows)["bottleneck"] == rows[1]["bottleneck"]


def test_settings_are_named_by_their_clients() -> None:
    assert [setting.label for setting in clients(1, 8, 64)] == [
        {"clients": 1},
        {"clients": 8},
        {"clients": 64},
    ]
    assert clients(8, seconds=3)[0].load == Closed(8, 3)


def test_a_limit_stands_beside_contenders_where_it_has_an_answer() -> None:
    settings = [*SHORT, Setting({"clients": 3}, Closed(3, seconds=0.1, warm=0.05))]
    figures = iter([40.0, 10.0, 20.0])
    limit = Limit("limit", lambda s: {"req/s": next(figures), "batch": 16} if s.label["clients"] == 2 else {})
    rows = Rows()
    compare(rows, [contender("a", echo, []), limit], settings, rounds=3)
    found = [row for row in rows if row["server"] == "limit"]
    assert [row["round"] for row in found] == ["1", "2", "3", "median of 3"]
    assert (found[-1]["clients"], found[-1]["req/s"], found[-1]["spread"]) == (2, 20.0, "10.0 to 40.0")
    assert found[-1]["req/s ratio"] == round(20.0 / rows[6 + 3]["req/s"], 3)
