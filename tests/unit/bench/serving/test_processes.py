"""A load in other processes is the same load, and its result is whole or an error."""

from __future__ import annotations

import os
import signal

import pytest

from tests.bench.serving.load import Closed, Open, Plan
from tests.bench.serving.processes import Workers, run_load
from tests.bench.serving.protocols import Case, Plain
from tests.unit.bench.serving.servers import Server, serve

CASES = [Case({"n": number}, {"n": number}) for number in range(10)]


def plan(server: Server, load: Closed | Open) -> Plan:
    return Plan(server.target, Plain("/"), CASES, load, seed=5)


def test_two_processes_put_one_load() -> None:
    with serve() as server:
        result = run_load(plan(server, Closed(3, requests=101, warm=0)), processes=2)
    assert len(result.samples) == 101 == len(server.requests)
    assert server.connections == 3
    assert result.samples.failures == [] and len(result.own) == 2
    start, end = result.window
    assert start <= min(result.samples.column("intended"))
    assert max(result.samples.column("ended")) <= end


def test_samples_come_back_whole_however_many() -> None:
    with serve() as server:
        result = run_load(plan(server, Closed(1, requests=3000, warm=0)))
    assert sorted(result.samples.column("case")) == sorted(request.body["n"] for request in server.requests)


def test_open_arrivals_of_several_processes_are_those_of_one() -> None:
    with serve() as server:
        one, two = (run_load(plan(server, Open(200, seconds=0.5, warm=0)), processes) for processes in (1, 2))
    due = [
        sorted(when - result.window[0] for when in result.samples.column("intended")) for result in (one, two)
    ]
    assert due[0] == pytest.approx(due[1], abs=1e-9)


def test_a_process_that_dies_is_an_error() -> None:
    with serve() as server, Workers(plan(server, Open(10, seconds=None, warm=0))) as workers:
        workers.start()
        os.kill(workers._running[0].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="ended with -9 and left no result"):
            workers.collect()


def test_no_process_is_left_whatever_fails() -> None:
    with (
        serve() as server,
        pytest.raises(ZeroDivisionError),
        Workers(plan(server, Closed(1, seconds=60)), 2) as workers,
    ):
        workers.start()
        raise ZeroDivisionError
    assert [process.returncode for process in workers._running] == [-9, -9]
