"""Questions that are computed in another process: answers, failures, and when that process is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from modelyard.engine.plan import Key
from modelyard.engine.probe import Computation
from modelyard.observe.computer import Computer
from modelyard.telemetry.metrics import Metrics

KEY = Key("Toy", "ns", "a")
OTHER = Key("Toy", "ns", "b")


class World:
    def __init__(self, **options: Any) -> None:
        self.changed: list[Key] = []
        self.metrics = Metrics()
        self.computer = Computer(self.changed.append, self.metrics, time.monotonic, **options)

    async def until(self, check: Callable[[], Any], timeout: float = 20.0) -> Any:
        async with asyncio.timeout(timeout):
            while not check():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
        return check()

    async def ask(self, question: Computation, key: Key = KEY) -> Any:
        self.computer.watch(key, [question])
        return await self.until(lambda: self.computer.of(key).get(question.name))


def run(scenario: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        world = World(**options)
        task = asyncio.create_task(world.computer.run())
        try:
            await scenario(world)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert world.computer._process is None

    asyncio.run(main())


def question(name: str, **payload: Any) -> Computation:
    return Computation(f"tests.fakes.questions:{name}", payload)


def test_a_question_is_named_by_its_function_and_what_it_asks() -> None:
    assert question("add", numbers=[1, 2]) == question("add", numbers=[1, 2])
    names = [
        question("add", numbers=[1]).name,
        question("add", numbers=[2]).name,
        question("fail", numbers=[1]).name,
    ]
    assert len(set(names)) == 3


def test_an_answer_is_told_once_and_stays_as_long_as_it_is_asked_for() -> None:
    async def scenario(world: World) -> None:
        asked = question("add", numbers=[1, 2, 3])
        answer = await world.ask(asked)
        assert answer["answer"]["sum"] == 6
        assert world.changed == [KEY]
        for _ in range(5):
            world.computer.watch(KEY, [question("add", numbers=[1, 2, 3])])
        await asyncio.sleep(0.1)
        assert world.changed == [KEY]
        assert world.computer.of(KEY) == {asked.name: answer}
        world.computer.watch(KEY, [])
        assert world.computer.of(KEY) == {}

    run(scenario)


def test_another_payload_has_no_answer_of_an_earlier_ones() -> None:
    async def scenario(world: World) -> None:
        first = question("add", numbers=[1])
        await world.ask(first)
        second = question("add", numbers=[2])
        world.computer.watch(KEY, [second])
        assert world.computer.of(KEY) == {}
        assert (await world.ask(second))["answer"]["sum"] == 2

    run(scenario)


def test_one_process_answers_many_and_ends_when_there_is_nothing_to_do() -> None:
    async def scenario(world: World) -> None:
        assert world.computer._process is None, "nothing was asked"
        pids = [(await world.ask(question("add", numbers=[n])))["answer"]["pid"] for n in range(3)]
        pids.append((await world.ask(question("add", numbers=[9]), OTHER))["answer"]["pid"])
        assert len(set(pids)) == 1
        await world.until(lambda: world.computer._process is None)
        assert (await world.ask(question("add", numbers=[4])))["answer"]["pid"] not in pids

    run(scenario, idle=0.3)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fail", "ValueError: x"),
        ("nothing_json", "TypeError: Object of type set is not JSON"),
        ("absent", "AttributeError: "),
    ],
)
def test_whatever_a_function_raises_is_the_answer_in_bounds(name: str, error: str) -> None:
    async def scenario(world: World) -> None:
        answer = await world.ask(question(name))
        assert answer["error"].startswith(error)
        assert len(answer["error"]) <= 1000
        assert (await world.ask(question("add", numbers=[1])))["answer"]["sum"] == 1

    run(scenario)


def test_a_function_that_does_not_end_is_given_up_and_the_next_one_answered() -> None:
    async def scenario(world: World) -> None:
        world.computer.watch(KEY, [question("never")])
        process = await world.until(lambda: world.computer._process)
        assert await world.ask(question("never")) == {"error": "took longer than 0.5 s"}
        assert process.returncode is not None
        assert (await world.ask(question("add", numbers=[1])))["answer"]["sum"] == 1

    run(scenario, limit=0.5)


def test_a_question_that_kills_its_process_is_asked_three_times(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        count = tmp_path / "count"
        assert await world.ask(question("die", count=str(count))) == {"error": "3 processes have died of it"}
        assert count.read_text() == "xxx"
        once = question("die_once", count=str(tmp_path / "once"))
        assert await world.ask(once) == {"answer": "alive"}

    run(scenario)


def test_a_question_that_is_withdrawn_before_its_turn_is_not_computed(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.computer.watch(KEY, [question("die_once", count=str(tmp_path / "never"))])
        world.computer.watch(KEY, [])
        await world.ask(question("add", numbers=[1]), OTHER)
        assert not (tmp_path / "never").exists()
        assert world.changed == [OTHER]

    run(scenario)


def test_what_was_computed_is_measured() -> None:
    async def scenario(world: World) -> None:
        await world.ask(question("add", numbers=[1]))
        await world.ask(question("fail"))
        for result in ("answer", "error"):
            counted = world.metrics.registry.get_sample_value(
                "modelyard_computation_seconds_count", {"result": result}
            )
            assert counted == 1

    run(scenario)
