"""The meter's windows are exact: held against sums over every event, kept and added up anew."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelyard.contract.load import BUCKET_SECONDS, PANIC_SECONDS, STABLE_SECONDS, LoadMeter, Window

# (seconds since the last one, queued, running, arrived, finished)
event = st.tuples(
    st.one_of(st.sampled_from([0.0, 0.125, 0.001, 6.0, 60.0]), st.floats(0, 3), st.floats(0, 200)),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 5),
    st.integers(0, 5),
)
Event = tuple[float, int, int, int, int]


def reference(events: list[Event], end: float, seconds: float) -> Window:
    """The mean over [begin, end] from all events, by the definition: begin is the bucket's edge at or before the
    window's, and no time before 0 is known.
    """
    begin = max(0.0, (math.floor(end / BUCKET_SECONDS) - seconds / BUCKET_SECONDS) * BUCKET_SECONDS)
    length = end - begin
    sums, now, queued, running = [0.0, 0.0, 0.0, 0.0], 0.0, 0, 0
    for passed, *what in [*events, (end, 0, 0, 0, 0)]:
        later = min(now + passed, end)
        span = max(0.0, later - max(now, begin))
        sums[0] += queued * span
        sums[1] += running * span
        now = later
        if len(what) and now >= begin:
            sums[2] += what[2]
            sums[3] += what[3]
        queued, running = what[0], what[1]
    return Window(*(total / length for total in sums))


@settings(max_examples=300, deadline=None)
@given(st.lists(event, min_size=1, max_size=60), st.floats(0.01, 100), st.sampled_from([0.0, 1.8e9, -7.5]))
def test_the_windows_are_those_of_the_reference(events: list[Event], rest: float, origin: float) -> None:
    meter, now = LoadMeter(origin), origin
    for passed, queued, running, arrived, finished in events:
        now += passed
        meter.update(now, queued, running, arrived, finished)
    report = meter.report(now + rest)
    # As the meter's clock saw it: adding to a large number loses digits.
    clock, seen = origin, []
    for passed, *what in events:
        seen.append((clock + passed - clock, *what))
        clock += passed
    end = sum(s[0] for s in seen) + (now + rest - now)
    for window, seconds in ((report.stable, STABLE_SECONDS), (report.panic, PANIC_SECONDS)):
        wanted = reference(seen, end, seconds)  # type: ignore[arg-type]
        assert window.queued == pytest.approx(wanted.queued, rel=1e-6, abs=1e-6)
        assert window.running == pytest.approx(wanted.running, rel=1e-6, abs=1e-6)
        assert window.arrival_rate == pytest.approx(wanted.arrival_rate, rel=1e-6, abs=1e-6)
        assert window.finish_rate == pytest.approx(wanted.finish_rate, rel=1e-6, abs=1e-6)
    assert (report.queued, report.running) == events[-1][1:3]


def test_a_gateway_that_has_just_begun_tells_what_there_is_now() -> None:
    meter = LoadMeter(5.0)
    meter.update(5.0, 3, 2, arrived=5)
    report = meter.report(5.0)
    assert (report.stable.work, report.panic.work, report.covered_seconds) == (5.0, 5.0, 0.0)


def test_idle_seconds_begin_when_the_last_request_ends() -> None:
    meter = LoadMeter(0.0)
    assert meter.report(4.0).idle_seconds == 4.0
    meter.update(10.0, 0, 1, arrived=1)
    assert meter.report(100.0).idle_seconds == 0.0
    meter.update(130.0, 0, 0, finished=1)
    assert meter.report(131.5).idle_seconds == 1.5


def test_a_request_that_came_and_went_between_two_updates_ends_an_idle_time() -> None:
    meter = LoadMeter(0.0)
    meter.update(50.0, 0, 0, arrived=1, finished=1)
    assert meter.report(51.0).idle_seconds == 1.0


def test_a_clock_that_is_set_back_stands_still_and_goes_on() -> None:
    meter = LoadMeter(1000.0)
    meter.update(1000.0, 0, 4)
    assert meter.report(1010.0).panic.running == 4.0
    meter.update(10.0, 0, 8)
    assert meter.report(13.0).panic.running == pytest.approx((4 * 3 + 8 * 3) / 6, rel=0.01)


def test_a_clock_that_leaps_ahead_fills_the_windows_with_what_was_true() -> None:
    meter = LoadMeter(0.0)
    meter.update(30.0, 0, 4)
    report = meter.report(1e9)
    assert report.stable.running == pytest.approx(4.0)
    assert report.panic.running == pytest.approx(4.0)


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
def test_what_is_no_time_is_refused(now: float) -> None:
    meter = LoadMeter(0.0)
    with pytest.raises(ValueError, match="no time"):
        meter.report(now)


def test_numbers_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        LoadMeter(0.0).update(1.0, -1, 0)


def test_means_that_are_told_afterwards_count_as_if_each_change_had_been_told() -> None:
    told, averaged = LoadMeter(0.0), LoadMeter(0.0)
    for now, queued, running in ((0.25, 4, 1), (0.5, 0, 3), (0.75, 2, 2), (1.0, 1, 0)):
        told.update(now, queued, running, 1, 1)
    averaged.average(0.0, 0.0)
    averaged.update(0.25, 4, 1, 1, 1)
    averaged.average((4 + 0 + 2) / 3, (1 + 3 + 2) / 3)
    averaged.update(1.0, 1, 0, 3, 3)
    assert averaged.report(2.0) == told.report(2.0)
