"""Probing: how often, how many at once, and what is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from modelyard.engine.plan import Key
from modelyard.engine.probe import EventProbe, ObjectProbe, Probe
from modelyard.observe.pace import EVENT_LONGEST, INTERVAL, LONGEST, Pace
from modelyard.observe.poller import Answer, Poller
from modelyard.telemetry.metrics import Metrics

from tests.fakes.clock import FakeClock


def key(n: int = 0) -> Key:
    return Key("TrainingJob", "ns", f"j{n}")


def probe(n: int = 0, pod: str = "p", **options: float) -> Probe:
    return Probe("agent", "ns", f"{pod}{n}", "10.0.0.1", 9400, "/v1/progress", **options)


class FakeReader:
    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = {"step": 1}
        self.same = False
        self.asked: list[str] = []
        self.now = self.most = 0
        self.gate: asyncio.Event | None = None
        self.waits: list[tuple[float, float, str | None]] = []

    async def read(self, probe: Probe, timeout: float, wait: float, tag: str | None) -> Answer | None:
        self.asked.append(probe.pod)
        self.waits.append((timeout, wait, tag))
        self.now += 1
        self.most = max(self.most, self.now)
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        self.now -= 1
        if self.same:
            return Answer(None)
        return Answer(self.answer) if self.answer is not None else None


class FakeEvents:
    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = {}
        self.asked: list[str] = []

    async def read_events(self, probe: EventProbe, timeout: float) -> dict[str, Any] | None:
        self.asked.append(probe.uid)
        return self.answer


class FakeObjects:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def read_object(self, probe: ObjectProbe, timeout: float) -> dict[str, Any] | None:
        self.asked.append(probe.object)
        return {"found": False}


class World:
    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.reader = FakeReader()
        self.changed: list[Key] = []
        self.events = FakeEvents()
        self.objects = FakeObjects()
        self.metrics = Metrics()
        self.poller = Poller(
            self.reader, self.events, self.objects, self.clock, self.changed.append, self.metrics, **options
        )

    @property
    def interval(self) -> float | None:
        return self.metrics.registry.get_sample_value("modelyard_probe_interval_seconds")

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

    run(world, scenario)


@pytest.mark.parametrize("wait", [0.0, 20.0])
@pytest.mark.parametrize("known", [True, False])
def test_a_pod_that_falls_silent_is_told_of_once_and_once_when_it_is_back(known: bool, wait: float) -> None:
    world = World()
    told = [key()] if known else []

    async def scenario() -> None:
        if not known:
            world.reader.answer = None
        world.poller.watch(key(), [probe(wait=wait)])
        if known:
            await world.pass_time(1)
            world.reader.answer = None
        await world.pass_time(120)
        assert world.changed == [*told, key()]
        world.reader.answer = {"step": 1}
        await world.pass_time(40)
        assert world.changed == [*told, key(), key()]

    run(world, scenario)


def test_many_agents_share_one_budget_and_a_bounded_number_of_questions_at_once() -> None:
    world = World(budget=10.0, parallel=4)

    async def scenario() -> None:
        for n in range(100):
            world.poller.watch(key(n), [probe(n)])
        assert world.interval == 10.0
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


def test_an_object_of_others_is_read_at_once_and_told() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [ObjectProbe("claim-mine", "ns", "PersistentVolumeClaim", "mine")])
        await world.pass_time(0.5)
        assert world.objects.asked == ["mine"]
        assert world.changed == [key()]
        assert world.poller.of(key()) == {"claim-mine": {"found": False}}
        world.poller.watch(key(), [])
        await world.pass_time(60)
        assert world.objects.asked == ["mine"]
        assert world.reader.asked == []

    run(world, scenario)


def test_questions_for_events_do_not_make_agents_wait() -> None:
    world = World(budget=1.0)

    async def scenario() -> None:
        for n in range(50):
            world.poller.watch(key(n), [EVENTS])
        assert world.interval == 2.0

    run(world, scenario)


def test_each_pod_is_asked_at_its_own_interval() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(0), [probe(0, interval=1.0)])
        world.poller.watch(key(1), [probe(1, interval=5.0)])
        await world.pass_time(30)
        assert 29 <= world.reader.asked.count("p0") <= 31
        assert 6 <= world.reader.asked.count("p1") <= 7

    run(world, scenario)


def test_intervals_of_ones_own_share_the_budget_too() -> None:
    pace = Pace(budget=10.0)
    fast, slow = probe(0, interval=0.5), probe(1, interval=5.0)
    for _ in range(10):
        pace.begin(fast)
    assert (pace.interval(fast), pace.interval(slow), pace.interval()) == (1.0, 10.0, 2 * INTERVAL)
    for _ in range(10):
        pace.end(fast)
    assert (pace.interval(fast), pace.interval()) == (0.5, INTERVAL)


class HoldingReader:
    """Pods that hold their answers back while there is no other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.version = 1
        self.open = self.most = 0
        self.asked: list[tuple[float, float, str | None]] = []

    async def read(self, probe: Probe, timeout: float, wait: float, tag: str | None) -> Answer | None:
        self.asked.append((self.world.clock.seconds, wait, tag))
        self.open += 1
        self.most = max(self.most, self.open)
        until = self.world.clock.seconds + wait
        while tag == str(self.version) and self.world.clock.seconds < until:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        self.open -= 1
        return (
            Answer(None, tag) if tag == str(self.version) else Answer({"v": self.version}, str(self.version))
        )


def hold(**options: Any) -> tuple[World, HoldingReader]:
    world = World(**options)
    reader = HoldingReader(world)
    world.poller._reader = reader
    return world, reader


def test_a_pod_that_may_hold_its_answer_back_is_heard_at_once_and_asked_seldom() -> None:
    world, reader = hold()

    async def scenario() -> None:
        world.poller.watch(key(), [probe(interval=1.0, wait=20.0)])
        await world.pass_time(0.5, step=0.1)
        assert world.changed == [key()]
        await world.pass_time(60)
        # The first is answered at once; whoever has waited long enough asks again without a pause.
        assert [(round(at), wait, tag) for at, wait, tag in reader.asked] == [
            (0, 0.0, None), (1, 20.0, "1"), (21, 20.0, "1"), (41, 20.0, "1"),
        ]  # fmt: skip
        assert world.poller.of(key()) == {"agent": {"v": 1}}
        reader.version = 2
        await world.pass_time(0.1, step=0.1)
        assert world.changed == [key(), key()]
        assert world.poller.of(key()) == {"agent": {"v": 2}}

    run(world, scenario)


def test_news_without_end_is_asked_for_no_more_often_than_the_interval() -> None:
    world, reader = hold()

    async def scenario() -> None:
        world.poller.watch(key(), [probe(interval=1.0, wait=20.0)])
        for _ in range(100):
            reader.version += 1
            await world.pass_time(0.1, step=0.1)
        assert 9 <= len(reader.asked) <= 11

    run(world, scenario)


def test_answers_that_are_held_back_keep_no_others_waiting_and_have_a_bound() -> None:
    world, reader = hold(parallel=2, held=3)

    async def scenario() -> None:
        for n in range(10):
            world.poller.watch(key(n), [probe(n, interval=1.0, wait=20.0)])
        await world.pass_time(10, step=0.1)
        assert reader.most == 3 + 1  # all that may be held, and one of the others at a time, answered at once
        late = [wait for at, wait, _ in reader.asked if at > 5]
        assert late.count(0.0) > 7 * 4

    run(world, scenario)


def test_a_pod_that_holds_back_and_falls_silent_is_asked_for_a_sign_of_life() -> None:
    world = World()

    async def scenario() -> None:
        world.poller.watch(key(), [probe(wait=20.0)])
        await world.pass_time(3)
        assert world.reader.waits[-1][:2] == (23.0, 20.0)
        world.reader.answer = None
        await world.pass_time(20)
        assert world.reader.waits[-1][:2] == (3.0, 0.0)

    run(world, scenario)


def test_an_answer_that_is_cut_off_on_its_way_is_asked_for_again_and_no_silence() -> None:
    world, reader = hold()
    read = reader.read

    async def cut(probe: Probe, timeout: float, wait: float, tag: str | None) -> Answer | None:
        answer = await read(probe, timeout, wait, tag)
        return None if wait else answer

    world.poller._reader = reader
    reader.read = cut  # type: ignore[method-assign]

    async def scenario() -> None:
        world.poller.watch(key(), [probe(interval=1.0, wait=20.0)])
        await world.pass_time(60)
        assert world.changed == [key()]
        assert world.poller.ages(key())["agent"].silent == 0.0
        assert [wait for _, wait, _ in reader.asked] == [0.0, 20.0, 0.0, 20.0, 0.0, 20.0]

    run(world, scenario)


def test_another_pace_keeps_the_answer_and_asks_at_once() -> None:
    world, reader = hold()

    async def scenario() -> None:
        world.poller.watch(key(), [probe(interval=1.0)])
        await world.pass_time(0.5, step=0.1)
        for wait in (20.0, 0.0, 20.0, 0.0):
            world.poller.watch(key(), [probe(interval=1.0, wait=wait)])
            assert world.poller.of(key()) == {"agent": {"v": 1}}
            await world.pass_time(0.2, step=0.1)
            assert reader.asked[-1][1:] == (wait, "1")
        assert world.changed == [key()]  # it has said nothing else since
        reader.version = 2
        world.poller.watch(key(), [probe(interval=1.0, wait=20.0)])
        await world.pass_time(0.2, step=0.1)
        assert world.poller.of(key()) == {"agent": {"v": 2}}

    run(world, scenario)


def test_a_pod_that_has_never_answered_is_silent_once_it_was_asked_in_vain() -> None:
    world = World()
    world.reader.answer = None

    async def scenario() -> None:
        world.poller.watch(key(), [probe()])
        assert world.poller.ages(key()) == {}
        await world.pass_time(5)
        age = world.poller.ages(key())["agent"]
        assert round(age.silent) == round(age.seconds) == 5
        world.poller.watch(key(), [probe(wait=60.0)])  # asked otherwise, it is the same pod
        assert round(world.poller.ages(key())["agent"].silent) == 5
        world.reader.answer = {"step": 1}
        await world.pass_time(30)
        assert world.poller.ages(key())["agent"].silent == 0.0

    run(world, scenario)


def test_an_answer_ages_while_it_holds_and_a_pod_is_silent_only_once_it_was_asked_in_vain() -> None:
    world = World()

    async def scenario() -> None:
        assert world.poller.ages(key()) == {}
        world.poller.watch(key(), [probe()])
        await world.pass_time(0.1, step=0.1)
        assert world.poller.ages(key())["agent"].silent == 0.0
        world.reader.same = True  # from now on it says that nothing has changed
        await world.pass_time(10)
        age = world.poller.ages(key())["agent"]
        assert (age.silent, round(age.seconds)) == (0.0, 10)
        world.reader.answer, world.reader.same = None, False
        await world.pass_time(20)
        age = world.poller.ages(key())["agent"]
        assert round(age.seconds) == 30 and 18 <= age.silent <= 22
        world.reader.answer = {"step": 2}
        await world.pass_time(30)
        age = world.poller.ages(key())["agent"]
        assert age.silent == 0.0 and age.seconds < 30

    run(world, scenario)
