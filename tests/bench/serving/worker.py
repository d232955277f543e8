"""`python -m tests.bench.serving.worker`: one process of a load; processes.py starts it and is its only reader.

It reads a plan (one line of JSON) and says `ready`; reads when to begin (monotonic seconds, a clock that all processes
of a machine share); ends by itself or when it is told `stop` or its input ends, and writes what there was into the file
that it was given. (A file: after uvloop has run, a large write to a pipe may come out short, and nothing says so.)
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import sys
from collections.abc import Mapping
from typing import IO, Any

import uvloop

from tests.bench.serving.load import Closed, Generator, Open, Own, Plan, Result, Target
from tests.bench.serving.protocols import Case, describe, restore
from tests.bench.serving.samples import Samples


def write_plan(plan: Plan, index: int, processes: int, output: int) -> bytes:
    """A line. `output`: the descriptor of the file for the result."""
    content = {
        "target": dataclasses.asdict(plan.target),
        "protocol": describe(plan.protocol),
        "cases": [[case.input, case.expected] for case in plan.cases],
        "load": {"kind": type(plan.load).__name__, "fields": dataclasses.asdict(plan.load)},
        "seed": plan.seed,
        "index": index,
        "processes": processes,
        "output": output,
    }
    return json.dumps(content).encode() + b"\n"


def read_plan(content: Mapping[str, Any]) -> Plan:
    """The plan of a line."""
    kinds: dict[str, type[Closed] | type[Open]] = {"Closed": Closed, "Open": Open}
    return Plan(
        target=Target(**content["target"]),
        protocol=restore(content["protocol"]),
        cases=[Case(*case) for case in content["cases"]],
        load=kinds[content["load"]["kind"]](**content["load"]["fields"]),
        seed=content["seed"],
    )


def write_result(result: Result, file: IO[bytes]) -> None:
    """A line of JSON and the samples' doubles."""
    head = {
        "window": result.window,
        "own": [dataclasses.asdict(own) for own in result.own],
        "failures": result.samples.failures,
        "values": len(result.samples.values),
    }
    file.write(json.dumps(head).encode() + b"\n" + result.samples.values.tobytes())
    file.flush()


def read_result(file: IO[bytes]) -> Result:
    """What `write_result` wrote. Raises ValueError when it isn't whole."""
    head = json.loads(file.readline())
    samples = Samples(failures=[(when, kind, words) for when, kind, words in head["failures"]])
    samples.values.frombytes(file.read(head["values"] * samples.values.itemsize))
    if len(samples.values) != head["values"]:
        raise ValueError("the result of a load is cut off")
    start, end = head["window"]
    return Result((start, end), samples, [Own(**own) for own in head["own"]])


async def work(content: Mapping[str, Any]) -> Result:
    """One load."""
    loop = asyncio.get_running_loop()
    generator = Generator(read_plan(content), content["index"], content["processes"])
    gc.collect()
    gc.freeze()  # what is there by now stays: collections during the load look at less
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    # Unbuffered: a `stop` that comes right behind must stay where the loop sees it.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as file:  # noqa: ASYNC230
        begin = float(file.readline())

    def stop() -> None:
        loop.remove_reader(sys.stdin.fileno())
        generator.stopped.set()

    loop.add_reader(sys.stdin.fileno(), stop)
    try:
        return await generator.run(begin)
    finally:
        loop.remove_reader(sys.stdin.fileno())


def main() -> None:
    """From the plan to the result."""
    content = json.loads(sys.stdin.buffer.readline())
    result = uvloop.run(work(content))
    with open(content["output"], "wb") as file:  # noqa: PTH123 - a descriptor
        write_result(result, file)


if __name__ == "__main__":
    main()
