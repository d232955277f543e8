"""How many replicas: each reason by a case, and what must be true of every look."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelyard.contract.load import LoadReport, Window
from modelyard.serving.scaling import Held, Load, Present, ScalingConfig, ScalingState, decide, total

NOW = 1_800_000_000.0
CONFIG = ScalingConfig(target=10, max_replicas=8, min_replicas=0, delay_seconds=300, idle_seconds=120)
AT_LEAST_2 = replace(CONFIG, min_replicas=2)
many = settings(max_examples=500, deadline=None)


def steady(work: float, **changes: Any) -> Load:
    """So many requests in flight, for as long as the windows see; each takes a second."""
    window = Window(running=work, arrival_rate=work, finish_rate=work)
    return replace(Load(running=round(work), stable=window, panic=window), **changes)


IDLE = Load(idle_seconds=600)


def waiting(queued: int) -> Load:
    """Requests that came this moment."""
    return Load(queued=queued, panic=Window(queued=queued / 60, arrival_rate=queued / 6))


def held(*entries: tuple[int, float]) -> ScalingState:
    return ScalingState(held=tuple(Held(replicas, int(NOW + seconds)) for replicas, seconds in entries))


RISING = ScalingState(rising_since=int(NOW) - 10)
OVER = held((4, -1), (1, 305))  # a delay that has passed, with looks until now
OVER_IN_PANIC = replace(OVER, panic_until=int(NOW) + 30)
CASES: dict[str, tuple[str, int, Load, ScalingState, ScalingConfig, Present]] = {
    "what is there fits": ("AtTarget", 4, steady(38), ScalingState(), CONFIG, Present(4, 4)),
    "the tolerance passes a little more": ("AtTarget", 4, steady(43), ScalingState(), CONFIG, Present(4, 4)),
    "nothing to do, at the least": ("AtMinimum", 2, steady(5), ScalingState(), AT_LEAST_2, Present(2, 2)),
    "more than there is": ("StableLoad", 6, steady(56), RISING, CONFIG, Present(4, 4)),
    "a rise is looked at first": ("LoadRising", 4, steady(56), ScalingState(), CONFIG, Present(4, 4)),
    "more than may be": ("AtMaximum", 8, steady(120), RISING, CONFIG, Present(8, 8)),
    "far more than may be": ("StableLoad", 8, steady(500), RISING, CONFIG, Present(3, 3)),
    "a leap that only the panic window has seen": (
        "Panic", 6, replace(steady(60), stable=steady(20).stable), RISING, CONFIG, Present(2, 2)
    ),
    "a leap that is no panic yet": (
        "Surge", 7, replace(steady(66), stable=steady(40).stable), RISING, CONFIG, Present(4, 4)
    ),
    "chance is no leap": (
        "AtTarget", 4, replace(steady(48), stable=steady(38).stable), RISING, CONFIG, Present(4, 4)
    ),
    "panic keeps what there is": ("Panic", 6, steady(15), OVER_IN_PANIC, CONFIG, Present(6, 6)),
    "the first request at zero": ("FromZero", 1, waiting(1), ScalingState(), CONFIG, Present(0, 0)),
    "many requests at zero": ("FromZero", 4, waiting(35), ScalingState(), CONFIG, Present(0, 0)),
    "more requests at zero than may be": ("FromZero", 8, waiting(900), ScalingState(), CONFIG, Present(0, 0)),
    "zero, and nothing to do": ("Idle", 0, IDLE, ScalingState(), CONFIG, Present(0, 0)),
    "the last one goes": ("Idle", 0, IDLE, ScalingState(), CONFIG, Present(1, 1)),
    "all go, after delay and idle time": ("Idle", 0, IDLE, OVER, CONFIG, Present(4, 4)),
    "the last one waits for the idle time": (
        "AtTarget", 1, Load(idle_seconds=119), ScalingState(), CONFIG, Present(1, 1)
    ),
    "the last one never goes with work": (
        "AtTarget", 1, Load(running=1, idle_seconds=600), ScalingState(), CONFIG, Present(1, 1)
    ),
    "the least stays without work": ("AtMinimum", 2, IDLE, ScalingState(), AT_LEAST_2, Present(2, 2)),
    "fewer, but not yet": ("ScaleDownDelayed", 4, steady(5), ScalingState(), CONFIG, Present(4, 4)),
    "fewer, after the delay": ("LowerLoad", 1, steady(5), OVER, CONFIG, Present(4, 4)),
    "what is left would have nothing to spare": ("AtTarget", 4, steady(29), OVER, CONFIG, Present(4, 4)),
    "never so few that more would be asked for at once": (
        "LowerLoad", 3, replace(steady(33), stable=steady(5).stable), OVER, CONFIG, Present(4, 4)
    ),
    "as many as the highest wish of the delay": (
        "LowerLoad", 3, steady(5), held((4, -1), (3, 100), (1, 305)), CONFIG, Present(4, 4)
    ),
    "not all gateways told": (
        "PartialLoad", 4, steady(5, answered=1, gateways=2), OVER, CONFIG, Present(4, 4)
    ),
    "a gateway has just begun": ("PartialLoad", 4, steady(5, covered_seconds=20.0), OVER, CONFIG, Present(4, 4)),
    "what some gateways told is enough for more": (
        "StableLoad", 6, steady(56, answered=1, gateways=2), RISING, CONFIG, Present(4, 4)
    ),
    "no gateway told": ("LoadUnknown", 4, steady(0, answered=0, gateways=2), OVER, CONFIG, Present(4, 4)),
    "none told, and below the least": (
        "LoadUnknown", 2, steady(5, answered=0, gateways=2), OVER, AT_LEAST_2, Present(0, 0)
    ),
    "the most was lowered": ("AtMaximum", 8, steady(120), ScalingState(), CONFIG, Present(20, 20)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_reason(case: tuple[str, int, Load, ScalingState, ScalingConfig, Present]) -> None:
    reason, replicas, load, state, config, present = case
    decision = decide(load, state, config, present, NOW)
    assert (decision.reason, decision.replicas) == (reason, replicas)


def test_each_reason_has_a_case() -> None:
    import modelyard.serving.scaling.decision as module

    told = " ".join((module.Decision.__doc__ or "").split()).split("reason: ")[1].split(". ")[0]
    assert {case[0] for case in CASES.values()} == set(told.replace(" or ", ", ").split(", "))


def test_nothing_is_asked_of_a_deployment_at_rest() -> None:
    assert decide(IDLE, ScalingState(), CONFIG, Present(0, 0), NOW).look_in is None
    assert decide(IDLE, ScalingState(), AT_LEAST_2, Present(2, 2), NOW).look_in is None
    waits = decide(Load(idle_seconds=20), ScalingState(), CONFIG, Present(1, 1), NOW)
    assert waits.look_in == 100


@pytest.mark.parametrize(("start_seconds", "enough"), [(60, (15, 16, 17)), (10, (6,))])
def test_a_queue_that_grows_while_replicas_start_does_not_ask_for_more(
    start_seconds: int, enough: tuple[int, ...]
) -> None:
    """20 requests a second of 2 s each arrive where one replica serves 5 a second and others start for a minute."""
    state, asked = ScalingState(rising_since=int(NOW) - 10), []
    config = replace(CONFIG, max_replicas=50, limit=14, start_seconds=start_seconds)
    present = Present(1, 1)
    for second in range(60):
        queued = 15 * second + 30
        panic = Window(queued=max(0.0, queued - 45), running=10, arrival_rate=20, finish_rate=5)
        load = Load(queued=queued, running=10, stable=replace(panic, queued=queued / 3), panic=panic)
        decision = decide(load, state, config, present, NOW + second)
        state, present = decision.state, Present(decision.replicas, 1)
        asked.append(decision.replicas)
    # 40 requests in flight need 4 at their target; 40 and a fifth of the 930 that wait after a minute need 16 at their
    # limit. Who was told of 10 s until they are ready asks, in the 12 s that a queue may ask, for the 210 then: 6.
    assert asked[-1] in enough, asked
    assert asked[20:] == [asked[-1]] * 40
    assert present.replicas < 94, "what the queue alone would ask for"


def test_a_fall_is_one_change() -> None:
    state, present, changes = ScalingState(), Present(8, 8), []
    for second in range(0, 600, 2):
        part = min(1.0, second / 60)
        low, high = steady(5), steady(75)
        load = replace(low if second > 6 else high, stable=steady(75 - 70 * part).stable)
        decision = decide(load, state, CONFIG, present, NOW + second)
        if decision.replicas != present.replicas:
            changes.append(decision.replicas)
        state, present = decision.state, Present(decision.replicas, decision.replicas)
    assert changes == [1]


windows = st.builds(
    Window,
    queued=st.one_of(st.just(0.0), st.floats(0, 300)),
    running=st.one_of(st.just(0.0), st.floats(0, 100)),
    arrival_rate=st.one_of(st.just(0.0), st.floats(0, 200)),
    finish_rate=st.one_of(st.just(0.0), st.floats(0.01, 200)),
)
loads = st.builds(
    Load,
    queued=st.one_of(st.just(0), st.integers(0, 300)),
    running=st.one_of(st.just(0), st.integers(0, 100)),
    stable=windows,
    panic=windows,
    idle_seconds=st.sampled_from([0.0, 30.0, 1000.0]),
    covered_seconds=st.sampled_from([60.0, 60.0, 10.0]),
    answered=st.sampled_from([2, 2, 2, 1, 0]),
    gateways=st.just(2),
)
configs = st.builds(
    lambda least, more, **rest: ScalingConfig(min_replicas=least, max_replicas=max(1, least + more), **rest),
    least=st.integers(0, 4),
    more=st.integers(0, 30),
    target=st.sampled_from([0.3, 1.0, 7.0, 100.0]),
    delay_seconds=st.sampled_from([0.0, 60.0, 300.0, 3600.0]),
    idle_seconds=st.sampled_from([0.0, 60.0]),
    limit=st.sampled_from([None, 10.0]),
    service_seconds=st.sampled_from([None, 0.1, 30.0]),
    start_seconds=st.sampled_from([0.0, 20.0]),
)
presents = st.builds(
    lambda r, part: Present(r, int(r * part)), st.integers(0, 35), st.sampled_from([0.0, 0.5, 1.0, 1.0])
)
moments = st.one_of(st.none(), st.integers(int(NOW) - 100, int(NOW) + 100))
states = st.builds(
    ScalingState,
    panic_until=moments,
    rising_since=moments,
    growing_since=moments,
    held=st.lists(
        st.builds(Held, st.integers(1, 40), st.integers(int(NOW) - 400, int(NOW) + 400)), max_size=5
    ).map(lambda entries: tuple(sorted(entries, key=lambda h: (h.until, -h.replicas)))),
)


@many
@given(loads, states, configs, presents)
def test_replicas_stay_in_bounds_and_work_never_finds_none(
    load: Load, state: ScalingState, config: ScalingConfig, present: Present
) -> None:
    decision = decide(load, state, config, present, NOW)
    assert config.min_replicas <= decision.replicas <= config.max_replicas
    if load.busy and load.usable:
        assert decision.replicas >= 1


@many
@given(
    loads,
    states,
    configs,
    presents,
    st.sampled_from(["queued", "running", "stable.queued", "stable.running", "stable.arrival_rate", "panic.queued",
                     "panic.running", "panic.arrival_rate"]),
    st.integers(1, 200),
)  # fmt: skip
def test_more_load_never_gives_fewer_replicas(
    load: Load, state: ScalingState, config: ScalingConfig, present: Present, what: str, more: int
) -> None:
    window, _, field = what.rpartition(".")
    if window:
        old = getattr(load, window)
        higher = replace(load, **{window: replace(old, **{field: getattr(old, field) + more})})
    else:
        higher = replace(load, **{field: getattr(load, field) + more})
    fewer = decide(load, state, config, present, NOW).replicas
    assert decide(higher, state, config, present, NOW).replicas >= fewer


@many
@given(loads, states, configs, presents)
def test_nothing_goes_in_panic_nor_on_partial_knowledge(
    load: Load, state: ScalingState, config: ScalingConfig, present: Present
) -> None:
    decision = decide(load, state, config, present, NOW)
    if (
        (state.panic_until or 0) > NOW
        or decision.state.panic_until is not None
        or not load.complete
        or not load.usable
    ):
        assert decision.replicas >= config.clamp(present.replicas)


@many
@given(loads, states, configs, presents, st.floats(0, 0.99))
def test_the_same_look_twice_changes_nothing(
    load: Load, state: ScalingState, config: ScalingConfig, present: Present, fraction: float
) -> None:
    now = NOW + fraction
    first = decide(load, state, config, present, now)
    again = decide(load, _written(first.state), config, Present(first.replicas, present.ready), now)
    assert (again.replicas, again.state) == (first.replicas, first.state)


@many
@given(loads, configs, presents)
def test_a_lost_state_takes_no_replica(load: Load, config: ScalingConfig, present: Present) -> None:
    replicas = config.clamp(present.replicas)
    decision = decide(load, ScalingState(), config, present, NOW)
    gone = decision.reason == "Idle" and replicas <= 1 and load.idle_seconds >= config.idle_seconds
    assert decision.replicas >= replicas or gone


@many
@given(loads, states, configs, presents, st.integers(0, 100))
def test_the_state_is_small(
    load: Load, state: ScalingState, config: ScalingConfig, present: Present, seed: int
) -> None:
    """Whatever wishes come, in looks of any distance."""
    dice, now = random.Random(seed), NOW  # noqa: S311 — looks, no secret
    for _ in range(60):
        now += dice.choice([1, 2, 5, 15])
        work = dice.uniform(0, 300)
        shaken = replace(load, stable=Window(running=work), panic=Window(running=work), answered=2)
        state = decide(shaken, state, config, present, now).state
    assert len(state.held) <= 30
    times = [h.until for h in state.held[1:]]
    assert times == sorted(times)


def _written(state: ScalingState) -> ScalingState:
    return ScalingState.from_json(json.loads(json.dumps(state.to_json())))


@many
@given(states)
def test_the_state_survives_json(state: ScalingState) -> None:
    assert _written(state) == state


@pytest.mark.parametrize(
    "written",
    [
        None,
        3,
        "x",
        [],
        {"held": 3},
        {"held": [{"replicas": "x", "until": 1}]},
        {"held": [3]},
        {"held": [{"replicas": 2, "until": "x"}]},
        {"panicUntil": float("nan")},
    ],
)
def test_a_state_that_can_not_be_read_counts_as_lost(written: Any) -> None:
    assert ScalingState.from_json(written) == ScalingState()


def test_wishes_that_nobody_saw_count_as_high_ones() -> None:
    """The operator was away for ten minutes, from the first look on that wished for fewer."""
    first = decide(steady(5), ScalingState(), CONFIG, Present(4, 4), NOW)
    after = decide(steady(5), first.state, CONFIG, Present(4, 4), NOW + 600)
    assert (after.reason, after.replicas) == ("ScaleDownDelayed", 4)


def test_a_rise_that_a_clock_ahead_has_seen_is_answered_in_time() -> None:
    state, present = ScalingState(rising_since=int(NOW) + 86_400), Present(4, 4)
    for second in range(4):
        decision = decide(steady(56), state, CONFIG, present, NOW + second)
        state, present = decision.state, Present(decision.replicas, 4)
    assert present.replicas == 6


def test_a_clock_that_was_ahead_holds_replicas_no_longer_than_the_delay() -> None:
    state = held((4, 86_400))
    for second in range(0, 400, 2):
        decision = decide(steady(5), state, CONFIG, Present(4, 4), NOW + second)
        state = decision.state
        if decision.replicas < 4:
            break
    assert (decision.replicas, second) == (1, 330)


@many
@given(
    st.floats(0.05, 40),
    st.sampled_from([1.0, 7.0, 100.0]),
    st.sampled_from([0.0, 300.0]),
    st.integers(0, 1000),
)
def test_noise_of_ten_percent_changes_nothing(level: float, target: float, delay: float, seed: int) -> None:
    """Both windows anywhere within 10 % of a constant load, at each look, for ten minutes."""
    dice = random.Random(seed)  # noqa: S311 — noise, no secret
    replicas = max(1, -int(-level // 1))
    config = ScalingConfig(target=target, max_replicas=100, min_replicas=1, delay_seconds=delay)
    state = ScalingState()
    for second in range(0, 600, 2):
        stable, panic = (
            dice.choice([0.9, 1.0, 1.1, dice.uniform(0.9, 1.1)]) * level * target for _ in range(2)
        )
        load = Load(
            running=round(panic),
            stable=Window(running=stable, arrival_rate=stable, finish_rate=stable),
            panic=Window(running=panic, arrival_rate=panic, finish_rate=panic),
        )
        decision = decide(load, state, config, Present(replicas, replicas), NOW + second)
        state = decision.state
        assert decision.replicas == replicas, (second, decision)


def test_gateways_are_summed() -> None:
    one = LoadReport(2, 3, Window(1, 2, 3, 4), Window(5, 6, 7, 8), 0.0, 60.0)
    two = LoadReport(0, 1, Window(1, 1, 1, 1), Window(2, 2, 2, 2), 9.0, 12.0)
    load = total([one, two], 3)
    assert load == Load(2, 4, Window(2, 3, 4, 5), Window(7, 8, 9, 10), 0.0, 12.0, 2, 3)
    assert total([], 2).usable is False


@pytest.mark.parametrize(
    "bounds", [{"min_replicas": 3, "max_replicas": 2}, {"max_replicas": 0}, {"max_replicas": 1, "target": 0}]
)
def test_a_config_that_can_not_be_is_refused(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"minReplicas|target"):
        ScalingConfig(**{"target": 1.0, **bounds})
