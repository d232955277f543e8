"""Probing: how often, how many at once, and what is told."""

from __future__ import annotations

import asyncio
from typing import Any

from modelyard.engine.plan import EventProbe, Key, ObjectProbe, Probe
from modelyard.observe.progress import EVENT_LONGEST, LONGEST, ProgressPoller
from modelyard.telemetry.metrics import Metrics

from tests.fakes.clock import FakeClock


def key(n: int = 0) -> Key:
    return Key("TrainingJob", "ns", f"j{n}")


def probe(n: int = 0, pod: str = "p") -> Probe:
    return Probe("agent", "ns", f"{pod}{n}", "10.0.0.1", 9400, "/v1/progress")


class FakeReader:
    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = {"step": 1}
        self.asked: list[str] = []
        self.now = self.most = 0
        self.gate: asyncio.Event | None = None

    async def read(self, probe: Probe, timeout: float) -> dict[str, Any] | None:
        self.asked.append(probe.pod)
        self.now += 1
        self.most = max(self.most, self.now)
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        self.now -= 1
        return self.answer


class FakeEvents:
    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = {}
        self.asked: list[str] = []

    async def read_events(self, probe: EventProbe, timeout: float) -> dict[str, Any] | None:
        self.asked.append(probe.uid)
        return self.answer


class World:
    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.reader = FakeReader()
        self.changed: list[Key] = []
        self.events = FakeEvents()
        self.poller = ProgressPoller(
            self.reader, self.events, self.clock, self.changed.append, Metrics(), **options
        )

    async def pass_time(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(max(1, round(seconds / step))):
            for _ in range(100):
                await asyncio.sleep(0)
            self.clock.advance(step)
        for _ in range(100):
            await asyncio.sleep(0)


def run(world: World, scenario: Any) -> None:
    async def main() -> None:
        task = asyncio.create_task(world.poller.run())
        try:
            await scenario()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_an_agent_is_asked_at_once_and_then_every_two_seconds() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [probe()])
        await world.pass_time(0.5)
        assert world.reader.asked == ["p0"]
        await world.pass_time(10)
        assert 5 <= len(world.reader.asked) <= 6

    run(world, scenario)


def test_only_a_changed_answer_is_told() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [probe()])
        await world.pass_time(10)
        assert world.changed == [key()]
        assert world.poller.of(key()) == {"agent": {"step": 1}}
        world.reader.answer = {"step": 2}
        await world.pass_time(4)
        assert world.changed == [key(), key()]

    run(world, scenario)


def test_naming_the_same_probes_again_changes_nothing() -> None:
    world = World()

    async def scenario() -> None:
        for _ in range(10):
            world.poller.watch(key(), [probe()])
            await world.pass_time(0.5, step=0.1)
        assert len(world.reader.asked) <= 4
        assert world.poller.of(key()) == {"agent": {"step": 1}}

    run(world, scenario)


def test_a_probe_that_left_the_plan_is_forgotten_with_its_answer() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [probe()])
        await world.pass_time(1)
        world.poller.watch(key(), [])
        asked = len(world.reader.asked)
        await world.pass_time(20)
        assert len(world.reader.asked) == asked
        assert world.poller.of(key()) == {}

    run(world, scenario)


def test_another_pod_under_the_same_name_starts_without_an_answer() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [probe()])
        await world.pass_time(1)
        world.poller.watch(key(), [probe(pod="next")])
        assert world.poller.of(key()) == {}
        await world.pass_time(1)
        assert world.reader.asked[-1] == "next0"

    run(world, scenario)


def test_an_answer_that_comes_after_its_probe_is_gone_is_dropped() -> None:
    world = World()

    async def scenario() -> None:
        world.reader.gate = asyncio.Event()
        world.poller.watch(key(), [probe()])
        await world.pass_time(0.5)
        world.poller.watch(key(), [])
        world.reader.gate.set()
        await world.pass_time(1)
        assert world.changed == []
        assert world.poller.of(key()) == {}

    run(world, scenario)


def test_a_silent_agent_keeps_its_last_answer_and_is_asked_less_often() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [probe()])
        await world.pass_time(1)
        world.reader.answer = None
        before = len(world.reader.asked)
        await world.pass_time(120)
        assert 120 / LONGEST <= len(world.reader.asked) - before <= 12
        assert world.poller.of(key()) == {"agent": {"step": 1}}
        assert world.changed == [key()]

    run(world, scenario)


def test_many_agents_share_one_budget_and_a_bounded_number_of_questions_at_once() -> None:
    world = World(budget=10.0, parallel=4)

    async def scenario() -> None:
        for n in range(100):
            world.poller.watch(key(n), [probe(n)])
        assert world.poller.interval == 10.0
        await world.pass_time(5)
        asked = len(world.reader.asked)
        assert len(set(world.reader.asked)) == 100  # each once, at once
        await world.pass_time(30)
        assert len(world.reader.asked) - asked <= 30 * 10 + 100
        assert world.reader.most <= 4

    run(world, scenario)


EVENTS = EventProbe("events-u", "ns", "Job", "u", after=3.0)
REFUSED = {"events": [{"reason": "FailedCreate", "message": "exceeded quota"}]}


def test_events_are_not_asked_for_before_their_time_nor_once_nothing_is_missing() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [EVENTS])
        await world.pass_time(2.5)
        world.poller.watch(key(), [EVENTS])  # another pass does not begin the wait anew
        assert world.events.asked == []
        await world.pass_time(1)
        assert world.events.asked == ["u"]
        world.poller.watch(key(1), [EVENTS])
        await world.pass_time(2)
        world.poller.watch(key(1), [])
        world.poller.watch(key(), [])
        await world.pass_time(120)
        assert world.events.asked == ["u"]

    run(world, scenario)


def test_events_are_told_when_there_are_some_and_asked_for_less_often_while_they_stay() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [EVENTS])
        await world.pass_time(4)
        assert world.changed == [], "no pass need look at nothing"
        world.events.answer = REFUSED
        await world.pass_time(11)
        assert world.changed == [key()]
        assert world.poller.of(key()) == {"events-u": REFUSED}
        await world.pass_time(300)
        asked = len(world.events.asked)
        await world.pass_time(600)
        assert 600 / EVENT_LONGEST - 1 <= len(world.events.asked) - asked <= 600 / EVENT_LONGEST + 1
        assert world.changed == [key()]

    run(world, scenario)


class FakeObjects:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def read_object(self, probe: ObjectProbe, timeout: float) -> dict[str, Any] | None:
        self.asked.append(probe.object)
        return {"found": False}


def test_an_object_of_others_is_read_at_once_and_told() -> None:
    objects = FakeObjects()
    world = World(objects=objects)

    async def scenario() -> None:
        world.poller.watch(key(), [ObjectProbe("claim-mine", "ns", "PersistentVolumeClaim", "mine")])
        await world.pass_time(0.5)
        assert objects.asked == ["mine"]
        assert world.changed == [key()]
        assert world.poller.of(key()) == {"claim-mine": {"found": False}}
        world.poller.watch(key(), [])
        await world.pass_time(60)
        assert objects.asked == ["mine"]
        assert world.reader.asked == []

    run(world, scenario)


def test_questions_for_events_do_not_make_agents_wait() -> None:
    world = World(budget=1.0)

    async def scenario() -> None:
        for n in range(50):
            world.poller.watch(key(n), [EVENTS])
        assert world.poller.interval == 2.0

    run(world, scenario)
