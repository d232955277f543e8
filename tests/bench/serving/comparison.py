"""Servers by turns under the same load: A B C A B C …, medians, spread, and ratios to the first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from tests.bench.sections import Row, Rows
from tests.bench.serving.load import Closed, Open, Plan, Target
from tests.bench.serving.processes import Workers
from tests.bench.serving.protocols import Case, Speaks
from tests.bench.serving.summary import count_answers, count_tokens, summarise
from tests.bench.serving.tree import Tree

ROUNDS = 3
# Columns of which each median row has the ratio to the first server's.
COMPARED = ("req/s", "p50 ms", "p99 ms", "tokens/s", "p50 TTFT ms", "CPU ms/req", "CPU ms/token")


@dataclass(frozen=True)
class Serving:
    """A server that runs and answers. `pid`: the root of its processes, if they are to be measured."""

    target: Target
    pid: int | None = None


@dataclass(frozen=True)
class Contender:
    """A server to measure. `open` starts it and waits until it answers; the end of its `with` stops it, so that
    only one runs at a time. `cases` are the same questions for all contenders, each with its answer."""

    name: str
    open: Callable[[], AbstractContextManager[Serving]]
    protocol: Speaks
    cases: Sequence[Case]


@dataclass(frozen=True)
class Limit:
    """What stands beside contenders without being asked over HTTP: a row for each load that it has an answer to."""

    name: str
    measure: Callable[[Setting], Row]


@dataclass(frozen=True)
class Setting:
    """A load, and how the table names it."""

    label: dict[str, Any]
    load: Closed | Open


def clients(*numbers: int, seconds: float = 10, warm: float = 2) -> list[Setting]:
    """Closed loops of so many clients each."""
    return [Setting({"clients": number}, Closed(number, seconds, warm=warm)) for number in numbers]


def measure(serving: Serving, plan: Plan, processes: int = 1) -> Row:
    """One load on a server: the summary and, of its process tree, CPU per right answer and peak memory."""
    with Workers(plan, processes) as workers, _watch(serving.pid) as tree:
        start = workers.start() + plan.load.warm
        if tree is None:
            return summarise(workers.collect())
        used = -_look_at(tree, start)
        stop = None
        if plan.load.seconds is not None and getattr(plan.load, "requests", None) is None:
            stop = start + plan.load.seconds
            used += _look_at(tree, stop)
        result = workers.collect()
        if stop is None:
            used += tree.look()
    row = summarise(result)
    own = {
        name: row.pop(name)
        for name in ("own CPU s", "own CPU %", "bottleneck", "failed", "error")
        if name in row
    }
    each = {"CPU ms/req": count_answers(result), "CPU ms/token": count_tokens(result)}
    costs = {name: round(used * 1e3 / number, 3) for name, number in each.items() if number}
    return row | costs | {"CPU s": round(used, 2), "peak MiB": round(tree.peak_mib)} | own


def compare(
    rows: Rows,
    contenders: Sequence[Contender | Limit],
    settings: Sequence[Setting],
    rounds: int = ROUNDS,
    seed: int = 0,
    processes: int = 1,
) -> None:
    """Rows of all rounds, then for each setting and server one with the medians, the spread of its rate, and ratios.

    All servers of a round have the same requests in the same order. What fails is in the row of what failed.
    """
    for turn in range(rounds):
        for contender in contenders:
            label = {"round": str(turn + 1), "server": contender.name}
            with rows.measure(**label), _open(contender, seed + turn, processes) as ask:
                for setting in settings:
                    with rows.measure(**label, **setting.label) as row:
                        row |= ask(setting)
    for setting in settings:
        first: Row | None = None
        for contender in contenders:
            label = {"server": contender.name, **setting.label}
            good = [row for row in rows if "error" not in row and label.items() <= row.items()]
            if good:
                middle = medians(good)
                first = middle if contender is contenders[0] else first
                rows.append({"round": f"median of {len(good)}", **label, **middle, **_ratios(middle, first)})


@contextmanager
def _open(contender: Contender | Limit, seed: int, processes: int) -> Iterator[Callable[[Setting], Row]]:
    if isinstance(contender, Limit):
        yield contender.measure
        return
    with contender.open() as serving:

        def ask(setting: Setting) -> Row:
            plan = Plan(serving.target, contender.protocol, contender.cases, setting.load, seed)
            return measure(serving, plan, processes)

        yield ask


def medians(rows: Sequence[Row]) -> Row:
    """Of each column of numbers that all rows have, and `spread`: least and greatest req/s."""
    names = [name for name in rows[0] if all(_is_figure(name, row.get(name)) for row in rows)]
    middle = {name: round(statistics.median(row[name] for row in rows), 3) for name in names}
    rates = [row["req/s"] for row in rows]
    said = [row["bottleneck"] for row in rows if "bottleneck" in row][:1]
    return middle | {"spread": f"{min(rates)} to {max(rates)}"} | ({"bottleneck": said[0]} if said else {})


def _is_figure(name: str, value: Any) -> bool:
    return name not in ("clients", "rate") and isinstance(value, int | float)


def _ratios(row: Row, first: Row | None) -> Row:
    if first is None:
        return {}
    return {
        f"{name} ratio": round(row[name] / first[name], 3)
        for name in COMPARED
        if row.get(name) and first.get(name)
    }


def _watch(pid: int | None) -> AbstractContextManager[Tree | None]:
    return nullcontext() if pid is None else Tree(pid)


def _look_at(tree: Tree, when: float) -> float:
    time.sleep(max(0.0, when - time.monotonic()))
    return tree.look()
